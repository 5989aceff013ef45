"""How good were they: summaries and answers against references, and how sure that is. Pure.

Every measure says what it does not tell; see `caveats` and docs/evaluation.md.
"""

"""A typed question that no model is asked: its fixed answer, as a record like any other."""

from medgemma_cli import identity
from medgemma_cli.recording import now
from medgemma_cli.records import Flag, ModelInfo, Record, TemplateInfo
from medgemma_cli.safety.framing import REFUSAL_NOTICE, fixed_answer


def refuse(question: str, template: str, flag: Flag) -> Record:
    """The record of a question that triage stopped.

    Nothing was read, no template was loaded and no engine made: in an emergency none of them may
    stand in the way. The question itself is in the record only as a part of its key.
    """
    key = identity.digest(["ask/1", "refused", flag.rule, question])
    answer = fixed_answer(flag.rule)
    return Record(
        key=key,
        source=f"ask/{key[:12]}",
        origin="-",
        summary=None,
        template=TemplateInfo(name=template, hash=""),
        model=ModelInfo(id="none", engine="none"),
        status="flagged",
        output={"answer": answer},
        raw_text=answer,
        flags=(flag,),
        created=now(),
        notice=REFUSAL_NOTICE,
    )

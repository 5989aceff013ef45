"""How the demo model is made: invented notes and drawings, and what learns from them."""

"""Supervised fine-tuning of LoRA adapters with TRL: what of it needs torch."""

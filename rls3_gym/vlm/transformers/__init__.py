"""Generative VLMs through transformers: PaliGemma, and others that it loads as image-text-to-text."""

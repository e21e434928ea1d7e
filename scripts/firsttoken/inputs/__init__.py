"""What goes in: model weights, tokenizer, prompts."""

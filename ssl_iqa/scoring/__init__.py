"""A finetuned model in use: scores, explanations, the page, export."""

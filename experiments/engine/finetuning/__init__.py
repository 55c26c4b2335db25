"""Fine-tuning of fusion models on tasks: what is asked, trained and predicted."""

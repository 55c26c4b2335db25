"""What a pretraining run can train: images alone, or towers over pairs."""

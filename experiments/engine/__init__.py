"""What touches files, devices or time: data, training, evaluation, records."""

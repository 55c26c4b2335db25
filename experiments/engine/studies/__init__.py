"""The trials, summaries and reports of the noise study and the bias study."""

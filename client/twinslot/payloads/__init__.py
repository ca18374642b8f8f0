"""What kinds of payloads there are, and how each is written."""

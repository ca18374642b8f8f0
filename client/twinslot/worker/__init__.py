"""The unprivileged processes: one fetches, parses and decodes; one verifies trust."""

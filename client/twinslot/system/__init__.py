"""The process and its machine: programs that are run, priority, log lines, who started it."""

"""What only looks: nothing here takes the lock, repairs or writes (S26)."""

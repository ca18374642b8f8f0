"""The dossier of a release: its evidence in one signed directory, read from files that other tools wrote."""

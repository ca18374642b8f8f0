"""What is in a root file system, as a bill of materials in CycloneDX."""

"""What differs between two releases: packages, files, sizes, vulnerabilities, requirements, tests."""

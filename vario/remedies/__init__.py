"""What to do about a finding: the catalogue of methods, and prescriptions with numbers."""

"""What the site wants: the policy file, its schema and its loader."""

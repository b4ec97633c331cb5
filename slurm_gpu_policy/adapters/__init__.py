"""How we touch the world; every vendor error is translated in here."""

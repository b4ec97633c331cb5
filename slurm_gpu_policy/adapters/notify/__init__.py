"""How people are told: mail, a chat channel's webhook, or else the log."""

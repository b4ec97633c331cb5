"""What is: frozen facts about requests, jobs, nodes and accounts.

Times are Unix seconds, durations seconds, memory MiB, money micro-units of the site's
currency; ``None`` means "not set" or "unlimited", as each field says.
"""

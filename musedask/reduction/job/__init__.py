"""One job of esorex: its inputs, its call, what it made, what is written down of it."""

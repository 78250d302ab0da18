"""How the suite itself runs: what one worker runs alone, that all has an end, what is run once."""

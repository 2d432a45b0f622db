from cellscribble.cli.main import main

main()

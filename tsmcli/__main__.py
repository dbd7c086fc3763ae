"""`python -m tsmcli` is the same as `tsm`."""

from tsmcli.cli import main

if __name__ == "__main__":
    main()

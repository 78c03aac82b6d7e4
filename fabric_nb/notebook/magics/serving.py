"""``%%fabric_serve`` and ``%fabric_stop``."""

from __future__ import annotations

from IPython.core.magic import cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from fabric_nb.notebook import arguments
from fabric_nb.notebook.arguments import count, unquoted
from fabric_nb.notebook.bridge import wait
from fabric_nb.notebook.magics.base import SessionMagics
from fabric_nb.notebook.serving import functions_to_serve, run_cell


@magics_class
class ServingMagics(SessionMagics):
    """Offer a cell's functions to others."""

    @no_var_expand
    @magic_arguments()
    @argument("--type", type=unquoted, help="The service's type.")
    @argument("--id", type=unquoted, help="The service's id.")
    @argument("--version", "-v", type=unquoted, default="", help="The service's version.")
    @argument("--only", type=unquoted, default="", help="Serve only these functions: a,b.")
    @argument("--thread", action="store_true", help="Run plain functions off the loop.")
    @argument("--prefetch", type=count, default=1, help="Calls of one method at once.")
    @cell_magic
    def fabric_serve(self, line: str, cell: str) -> None:
        """Run the cell and serve its top-level functions to everybody in the domain.

        In [5]: %%fabric_serve --type analytics --id mynb --version 1.2
           ...: def mean(values: list) -> float:
           ...:     "The mean of the values."
           ...:     return sum(values) / len(values)

        Functions live in this notebook's namespace. Running the cell again swaps them without
        losing a call. Names that start with an underscore are never served. A function may call
        other services itself: with `%fabric_call`, or `await fabric.call(...)` in an `async def`.
        """
        __tracebackhide__ = True  # what the cell raises is the cell's
        with self._told(self.fabric_serve.parser):
            args = arguments.parse(self.fabric_serve.parser, line)
            _ = self.session.fabric  # says that it is missing before the cell is run
        defined = run_cell(self._user_shell, cell)
        with self._told(self.fabric_serve.parser):
            only = [name.strip() for name in args.only.split(",") if name.strip()]
            wait(
                self.session.serve(
                    functions_to_serve(self._user_shell.user_ns, defined, only),
                    type=args.type,
                    id=args.id,
                    version=args.version,
                    prefetch=args.prefetch,
                    threads=args.thread,
                )
            )

    @magic_arguments()
    @argument("what", type=unquoted, help="A service's id or type.id, or a stream's variable.")
    @line_magic
    def fabric_stop(self, line: str) -> None:
        """Stop serving, or close a stream or log feed.

        In [8]: %fabric_stop mynb
        """
        with self._told(self.fabric_stop.parser):
            args = arguments.parse(self.fabric_stop.parser, line)
            print(f"Stopped {wait(self.session.stop(args.what))}")  # noqa: T201 - a magic's answer

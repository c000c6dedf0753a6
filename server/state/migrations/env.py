"""What Alembic runs: the migrations on the connection that server/state/database.py hands over, in its transaction."""

from alembic import context

from server.state.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    compare_server_default=True,
    # SQLite changes a table by making it anew; and both databases undo a migration that fails half-way, tables too.
    render_as_batch=True,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()

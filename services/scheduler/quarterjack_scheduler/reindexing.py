"""One more duty of the leader: build indexes anew that have outgrown their table.

Pruning takes jobs away, but what each of them had in its args and meta stays in Oban's GIN indexes, so that these grow
with all jobs that ever were.
"""

import logging

import asyncpg

from quarterjack.database import Connection
from quarterjack.queries import reindexing

log = logging.getLogger(__name__)

EVERY = 3_600.0
WITHIN = 3_600.0
LEAST = 2**26
REBUILDS = {
    "oban_jobs_args_index": reindexing.rebuild_args,
    "oban_jobs_meta_index": reindexing.rebuild_meta,
}


async def reindex(db: Connection) -> float:
    """Build what has outgrown its table anew, one after the other; seconds until the next look."""
    for name in await reindexing.outgrown(db, least=LEAST):
        log.info("building %s anew, which has outgrown its table", name)
        try:
            await REBUILDS[name](db)
        except asyncpg.InsufficientPrivilegeError as error:
            log.warning("could not build %s anew: %s; its owner has to reindex it", name, error)
        else:
            log.info("built %s anew", name)
    return EVERY

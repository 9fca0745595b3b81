"""Run `quarterjack-scheduler`: elects a leader among its replicas and enqueues each tick exactly once."""

import argparse
import sys

from quarterjack.errors import SettingInvalid
from quarterjack.process import run, set_up_logging
from quarterjack_scheduler.service import serve

SETTINGS = """settings, all by environment:
  DATABASE_URL, DATABASE_URL_FILE     the database; DATABASE_DIRECT_URL if the first leads through a pooler
  QUARTERJACK_SCHEMA                  the schema, default public
  QUARTERJACK_NODE                    the name of this replica, default host and pid
  QUARTERJACK_KEEP_COMPLETED          age and count of completed jobs to keep, default "7d 1000000"
  QUARTERJACK_KEEP_CANCELLED          the same for cancelled ones, default "30d 1000000"
  QUARTERJACK_KEEP_DISCARDED          the same for discarded ones, default "90d 1000000"
  QUARTERJACK_ALERT_WEBHOOK, _FILE    POST alerts as JSON to this address
  QUARTERJACK_ALERT_EMAIL_TO, _FROM   mail alerts to these addresses (comma between), from this one
  QUARTERJACK_SMTP_URL, _FILE         through this server: smtp://user:password@host:587 or smtps://host
  QUARTERJACK_PUBLIC_URL              the admin, for links in alerts
  QUARTERJACK_HEALTH                  answer /live, /ready and /metrics at host:port, or port on loopback
  QUARTERJACK_STATEMENT_CACHE         0 behind a transaction pooler without prepared statements
  QUARTERJACK_TELEMETRY               on writes spans to otel_traces
  QUARTERJACK_LOG, _LOG_LEVEL         text or json; debug, info, warning or error
"""


def main() -> None:
    """Run the command line."""
    argparse.ArgumentParser(
        prog="quarterjack-scheduler",
        description=__doc__,
        epilog=SETTINGS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    try:
        set_up_logging()
    except SettingInvalid as error:
        sys.exit(f"quarterjack-scheduler: {error}")
    run("quarterjack-scheduler", serve())


if __name__ == "__main__":
    main()

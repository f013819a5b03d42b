#!/bin/sh
# Creates Temporal's databases and brings their schemas to the version of this image. Safe to run at every start.
set -eu

for database in temporal temporal_visibility; do
  directory=temporal
  if [ "$database" = temporal_visibility ]; then directory=visibility; fi
  tool() { temporal-sql-tool --plugin postgres12 --ep "$SQL_HOST" -p 5432 -u "$SQL_USER" --db "$database" "$@"; }
  # The first two fail where there is something already; if they failed for another reason, the third one says it.
  tool create || echo "database $database: there already"
  tool setup-schema -v 0.0 || echo "schema of $database: there already"
  tool update-schema -d "/etc/temporal/schema/postgresql/v12/$directory/versioned"
done

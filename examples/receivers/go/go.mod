module receiver

go 1.22

require (
	github.com/jackc/pgx/v5 v5.7.6
	github.com/standard-webhooks/standard-webhooks/libraries v0.0.1
)

// A target of pepay-bridge: net/http, pgx and the Standard Webhooks library.
//
//	go mod tidy
//	export SIGNING_SECRET=whsec_… DATABASE_URL=postgresql://… PORT=8000
//	go run .
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// Events of 256 KiB and more arrive; what is larger than this is answered 413.
const mostBytes = 4 << 20

type receiver struct {
	database *sql.DB
	verify   func(payload []byte, headers http.Header) error
}

type event struct {
	Data struct {
		Object struct {
			ID      any     `json:"id"`
			OrderID any     `json:"orderId"`
			Status  *string `json:"status"`
		} `json:"object"`
	} `json:"data"`
}

func main() {
	webhook, err := standardwebhooks.NewWebhook(os.Getenv("SIGNING_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	database, err := sql.Open("pgx", os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	database.SetMaxOpenConns(8)
	http.Handle("/pepay-events", &receiver{database: database, verify: webhook.Verify})
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PORT"), ReadTimeout: 30 * time.Second}
	log.Fatal(server.ListenAndServe())
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost {
		http.Error(w, "only POST", http.StatusMethodNotAllowed)
		return
	}
	// The bytes as they came: parsed and written again, they would not verify.
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, mostBytes))
	if err != nil {
		http.Error(w, "the body is too large or broken", http.StatusRequestEntityTooLarge)
		return
	}
	if err := r.verify(body, request.Header); err != nil {
		http.Error(w, "the signature does not verify", http.StatusUnauthorized)
		return
	}
	if err := r.receiveOnce(request.Context(), request.Header.Get("webhook-id"), body); err != nil {
		// pepay-bridge sends the event again.
		log.Print(err)
		http.Error(w, "not taken", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// receiveOnce is one transaction: the id and the work it stands for are kept together, or
// neither is.
func (r *receiver) receiveOnce(ctx context.Context, id string, body []byte) error {
	transaction, err := r.database.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	// Does nothing once it is committed.
	defer transaction.Rollback()
	taken, err := transaction.ExecContext(ctx, "INSERT INTO received (webhook_id) VALUES ($1) ON CONFLICT DO NOTHING", id)
	if err != nil {
		return err
	}
	isNew, err := taken.RowsAffected()
	if err != nil {
		return err
	}
	if isNew > 0 {
		if err := apply(ctx, transaction, body); err != nil {
			return err
		}
	}
	return transaction.Commit()
}

// apply does the work of one event. Pepay names an order by `id` or by `orderId`.
func apply(ctx context.Context, transaction *sql.Tx, body []byte) error {
	var event event
	if err := json.Unmarshal(body, &event); err != nil {
		return err
	}
	subject := event.Data.Object
	order := subject.ID
	if order == nil {
		order = subject.OrderID
	}
	if order == nil {
		return nil
	}
	_, err := transaction.ExecContext(ctx, `INSERT INTO orders (id, status, changes) VALUES ($1, $2, 1)
		ON CONFLICT (id) DO UPDATE SET status = excluded.status, changes = orders.changes + 1`,
		fmt.Sprint(order), subject.Status)
	return err
}

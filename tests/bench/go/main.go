// SPDX-License-Identifier: MIT

// The handler as one writes it for Go: net/http and pgx. What the bench compares with.
//
// The same endpoint, the checks that matter (token in constant time, content type, size, JSON, required
// fields, lengths, exact money, currency), and the same SQL function, one delivery a call, committed before the 200.
// Unlike the C handler it lets duplicate member names pass.
//
// As pgx's documentation advises: its pool, its own cache of prepared statements, binary parameters.
// Environment: BENCH_SOCKET, BENCH_TOKEN, BENCH_DSN (with pool_max_conns).
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v4/pgxpool"
)

const bodyLimit = 65536

const recordSQL = `select outcome, order_ref, order_state, reason, delivery_id from foloosi.record_deliveries(array[1], array[$1::text], array[$2::text],
	array[$3::bytea], array[$4::bytea], array[$5::text], array[null::text], array[$6::text], array[$7::text], array[$8::text],
	array[($9::text)::numeric], array[$10::text], array[$11::text], array[$12::text], array[$13::text], array[$14::text], array[$15::text],
	array[$16::text], array[$17::text])`

// A JSON string, or a number as its source text.
type text struct{ s *string }

func (t *text) UnmarshalJSON(b []byte) error {
	if bytes.Equal(b, []byte("null")) {
		return nil
	}
	var s string
	if b[0] == '"' {
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
	} else if b[0] == '-' || (b[0] >= '0' && b[0] <= '9') {
		s = string(b)
	} else {
		return &json.UnmarshalTypeError{Value: "something else", Field: "text"}
	}
	if s != "" {
		t.s = &s
	}
	return nil
}

type document struct {
	Data struct {
		Transfer *struct {
			Status    text `json:"transaction_status"`
			No        text `json:"transaction_no"`
			Reference text `json:"payment_reference"`
			Amount    text `json:"transaction_amount"`
			Currency  text `json:"transaction_currency"`
			Message   text `json:"transaction_message"`
			API       struct {
				Optional1 text `json:"optional1"`
				Optional2 text `json:"optional2"`
				Optional3 text `json:"optional3"`
				Email     text `json:"customer_email"`
				Mobile    text `json:"customer_mobile"`
				Card      text `json:"card_last_four"`
			} `json:"api"`
		} `json:"transfer"`
	} `json:"data"`
}

type fault struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

type order struct {
	Ref   string  `json:"ref"`
	State *string `json:"state"`
}

type answer struct {
	Outcome string  `json:"outcome"`
	Order   *order  `json:"order"`
	Reason  *string `json:"reason,omitempty"`
	ID      int64   `json:"id"`
}

var (
	amount   = regexp.MustCompile(`\A[0-9]{1,12}(\.[0-9]{1,4})?\z`)
	currency = regexp.MustCompile(`\A[A-Z]{3}\z`)
	jsonType = regexp.MustCompile(`(?i)\A\s*(application/(.+\+)?json|text/plain|text/json)?\s*(;|\z)`)
	names    = [12]string{"transaction_status", "transaction_no", "payment_reference", "transaction_amount", "transaction_currency",
		"transaction_message", "api/optional1", "api/optional2", "api/optional3", "api/customer_email", "api/customer_mobile", "api/card_last_four"}
	limits = [12]int{64, 128, 128, 17, 3, 1024, 255, 255, 255, 320, 64, 32}
)

// Bytes to the twelve fields. notJSON or faults say what is wrong with them.
func decode(body []byte) (f [12]*string, faults []fault, notJSON error) {
	var d document
	if !utf8.Valid(body) {
		return f, nil, fmt.Errorf("not UTF-8")
	}
	if err := json.Unmarshal(body, &d); err != nil {
		if _, ok := err.(*json.UnmarshalTypeError); !ok {
			return f, nil, err
		}
		return f, []fault{{"/data/transfer", err.Error()}}, nil
	}
	t := d.Data.Transfer
	if t == nil {
		return f, []fault{{"/data/transfer", "must be an object"}}, nil
	}
	a := &t.API
	f = [12]*string{t.Status.s, t.No.s, t.Reference.s, t.Amount.s, t.Currency.s, t.Message.s,
		a.Optional1.s, a.Optional2.s, a.Optional3.s, a.Email.s, a.Mobile.s, a.Card.s}
	for i, s := range f {
		if s != nil && (len(*s) > limits[i] && utf8.RuneCountInString(*s) > limits[i] || strings.IndexByte(*s, 0) >= 0) {
			faults = append(faults, fault{"/data/transfer/" + names[i], fmt.Sprintf("must be text of at most %d characters", limits[i])})
		}
	}
	if f[0] == nil {
		faults = append(faults, fault{"/data/transfer/transaction_status", "is required"})
	} else {
		s := strings.ToLower(*f[0])
		f[0] = &s
	}
	if f[3] != nil && !amount.MatchString(*f[3]) {
		faults = append(faults, fault{"/data/transfer/transaction_amount", "must be exact decimal"})
	}
	if f[4] != nil {
		s := strings.ToUpper(*f[4])
		f[4] = &s
		if !currency.MatchString(s) {
			faults = append(faults, fault{"/data/transfer/transaction_currency", "must be 3 letters"})
		}
	}
	if f[0] != nil && *f[0] == "success" && (f[3] == nil || f[4] == nil) {
		faults = append(faults, fault{"/data/transfer", "amount and currency are required for a success"})
	}
	if faults != nil {
		f = [12]*string{}
	}
	return f, faults, nil
}

func problem(w http.ResponseWriter, status int, faults []fault) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]interface{}{"type": "about:blank", "title": http.StatusText(status), "status": status, "faults": faults})
}

func main() {
	pool, err := pgxpool.Connect(context.Background(), os.Getenv("BENCH_DSN"))
	if err != nil {
		log.Fatal(err)
	}
	expected := sha256.Sum256([]byte(os.Getenv("BENCH_TOKEN")))

	handle := func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		var merchant, token string
		if len(parts) == 5 && parts[1] == "webhooks" && parts[2] == "foloosi" {
			merchant, token = parts[3], parts[4]
		}
		given := sha256.Sum256([]byte(token))
		if subtle.ConstantTimeCompare(given[:], expected[:]) != 1 || merchant != "bench" {
			problem(w, http.StatusNotFound, nil)
			return
		}
		if r.Method != http.MethodPost {
			if r.Method == http.MethodGet || r.Method == http.MethodHead {
				_, _ = io.WriteString(w, "{\"outcome\":\"hello\"}\n")
			} else {
				problem(w, http.StatusMethodNotAllowed, nil)
			}
			return
		}
		if r.ContentLength > bodyLimit {
			problem(w, http.StatusRequestEntityTooLarge, nil)
			return
		}
		if !jsonType.MatchString(r.Header.Get("Content-Type")) || r.Header.Get("Content-Encoding") != "" {
			problem(w, http.StatusUnsupportedMediaType, nil)
			return
		}
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
		if err != nil {
			problem(w, http.StatusBadRequest, nil)
			return
		}

		f, faults, notJSON := decode(body)
		var why *string
		if notJSON != nil {
			s := "not JSON: " + notJSON.Error()
			why = &s
		} else if faults != nil {
			s := ""
			for _, x := range faults {
				s += x.Pointer + ": " + x.Detail + "\n"
			}
			why = &s
		}
		digest := sha256.Sum256(body)
		ctx, cancel := context.WithTimeout(r.Context(), 3*time.Second)
		defer cancel()
		var a answer
		var ref, state *string
		err = pool.QueryRow(ctx, recordSQL, merchant, f[6], digest[:], body, why, f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8],
			f[9], f[10], f[11]).Scan(&a.Outcome, &ref, &state, &a.Reason, &a.ID)
		switch {
		case err != nil || a.Outcome == "busy":
			problem(w, http.StatusServiceUnavailable, nil)
		case notJSON != nil:
			problem(w, http.StatusBadRequest, nil)
		case faults != nil:
			problem(w, http.StatusUnprocessableEntity, faults)
		default:
			if ref != nil {
				a.Order = &order{*ref, state}
			}
			text, _ := json.Marshal(a)
			h := w.Header()
			h.Set("Content-Type", "application/json")
			h.Set("Cache-Control", "no-store")
			h.Set("X-Content-Type-Options", "nosniff")
			_, _ = w.Write(append(text, '\n'))
		}
	}

	listener, err := net.Listen("unix", os.Getenv("BENCH_SOCKET"))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(handle), ReadHeaderTimeout: 10 * time.Second}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		_ = server.Shutdown(context.Background())
		pool.Close()
	}()
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
}

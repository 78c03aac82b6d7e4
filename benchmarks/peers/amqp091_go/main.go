// amqp091-go, the client of RabbitMQ's own team, as a worker of benchmarks/harness.py.
//
// It reads a line of JSON with its setup, then one command per line, and replies to each with a line;
// see benchmarks/worker.py. The caller and the server use plain queues, no confirms, and
// acknowledgements, as bare aiormq does.
package main

import (
	"bufio"
	"encoding/json"
	"log"
	"os"
	"reflect"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	streamPrefetch = 500
	ackEvery       = 100
	directReplies  = "amq.rabbitmq.reply-to"
)

type setup struct {
	Role     string
	URI      string
	Service  string
	Prefetch int
}

type command struct {
	Command  string
	InFlight int `json:"in_flight"`
	Seconds  float64
	Count    int
	Source   source
}

type source struct {
	Queue string
}

type measured struct {
	Count   int64   `json:"count"`
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_us"`
}

type object map[string]interface{}

var request = object{"text": "0123456789abcdefghij", "number": 7.0}

func main() {
	log.SetFlags(0)
	input := bufio.NewReader(os.Stdin)
	var config setup
	if !read(input, &config) {
		return
	}
	connection, err := amqp.Dial(config.URI)
	check(err)
	channel, err := connection.Channel()
	check(err)
	worker := &worker{channel: channel, service: config.Service}
	switch config.Role {
	case "serve":
		worker.serve(config.Prefetch)
	case "call":
		worker.receiveReplies()
	}
	reply("ready")
	for {
		var received command
		if !read(input, &received) {
			return // the end of the input ends the worker
		}
		reply(worker.handle(received))
	}
}

type worker struct {
	channel   *amqp.Channel
	service   string
	publish   sync.Mutex // a channel of amqp091-go must not be shared without a lock
	number    int64
	waiting   sync.Mutex
	replies   map[string]chan []byte
	delivered <-chan amqp.Delivery
}

func (w *worker) handle(received command) interface{} {
	switch received.Command {
	case "usage":
		return cpu()
	case "settle":
		runtime.GC()
		return nil
	case "load":
		return w.load(received.InFlight, received.Seconds)
	case "connect":
		w.delivered = nil
		w.service = received.Source.Queue
		return nil
	case "receive":
		return w.drain(received.Count)
	}
	log.Fatalf("unknown command %q", received.Command)
	return nil
}

// serve echoes the requests of a queue, one after the other.
func (w *worker) serve(prefetch int) {
	_, err := w.channel.QueueDeclare(w.service, false, true, false, false, nil)
	check(err)
	check(w.channel.Qos(prefetch, 0, false))
	requests, err := w.channel.Consume(w.service, "", false, false, false, false, nil)
	check(err)
	go func() {
		for each := range requests {
			body := encode(decode(each.Body))
			check(w.channel.Publish("", each.ReplyTo, false, false, amqp.Publishing{
				ContentType:   "application/json",
				CorrelationId: each.CorrelationId,
				Type:          "result",
				Body:          body,
			}))
			check(each.Ack(false))
		}
	}()
}

func (w *worker) receiveReplies() {
	replies, err := w.channel.Consume(directReplies, "", true, false, false, false, nil)
	check(err)
	w.replies = map[string]chan []byte{}
	go func() {
		for each := range replies {
			w.waiting.Lock()
			waiting := w.replies[each.CorrelationId]
			delete(w.replies, each.CorrelationId)
			w.waiting.Unlock()
			waiting <- each.Body
		}
	}()
}

// load keeps calls in flight for some seconds, and checks each reply.
func (w *worker) load(inFlight int, seconds float64) measured {
	var count int64
	before, began := cpu(), time.Now()
	ends := began.Add(time.Duration(seconds * float64(time.Second)))
	var group sync.WaitGroup
	for caller := 0; caller < inFlight; caller++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for time.Now().Before(ends) {
				if echoed := w.call(); !reflect.DeepEqual(echoed, request) {
					log.Fatalf("the reply is %v", echoed)
				}
				atomic.AddInt64(&count, 1)
			}
		}()
	}
	group.Wait()
	return measured{count, time.Since(began).Seconds(), cpu() - before}
}

func (w *worker) call() object {
	id := strconv.FormatInt(atomic.AddInt64(&w.number, 1), 10)
	waiting := make(chan []byte, 1)
	w.waiting.Lock()
	w.replies[id] = waiting
	w.waiting.Unlock()
	body := encode(request)
	w.publish.Lock()
	err := w.channel.Publish("", w.service, true, false, amqp.Publishing{
		ContentType:   "application/json",
		CorrelationId: id,
		ReplyTo:       directReplies,
		Type:          "call",
		Body:          body,
	})
	w.publish.Unlock()
	check(err)
	return decode(<-waiting)
}

// drain receives the rows of a queue into maps.
func (w *worker) drain(count int) measured {
	before, began := cpu(), time.Now()
	check(w.channel.Qos(streamPrefetch, 0, false))
	delivered, err := w.channel.Consume(w.service, "drain", false, false, false, false, nil)
	check(err)
	rows := make([]object, 0, count)
	for each := range delivered {
		rows = append(rows, decode(each.Body))
		if len(rows)%ackEvery == 0 || len(rows) == count {
			check(each.Ack(true))
		}
		if len(rows) == count {
			break
		}
	}
	taken := measured{int64(count), time.Since(began).Seconds(), cpu() - before}
	check(w.channel.Cancel("drain", false))
	return taken
}

// cpu returns the CPU time of this process, user and system, in microseconds.
func cpu() float64 {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	seconds := float64(used.Utime.Sec + used.Stime.Sec)
	return seconds*1e6 + float64(used.Utime.Usec+used.Stime.Usec)
}

func read(input *bufio.Reader, into interface{}) bool {
	line, err := input.ReadBytes('\n')
	if err != nil {
		return false
	}
	check(json.Unmarshal(line, into))
	return true
}

func reply(value interface{}) {
	_, err := os.Stdout.Write(append(encode(value), '\n'))
	check(err)
}

func encode(value interface{}) []byte {
	body, err := json.Marshal(value)
	check(err)
	return body
}

func decode(body []byte) object {
	var value object
	check(json.Unmarshal(body, &value))
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// The quickstart in Go, with the standard library alone: go run quickstart.go
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"
)

// Answer is for scalars: an array would be nested slices, and a value that is not finite a string like "NaN".
type Answer struct {
	Values map[string]float64
	Grads  map[string]float64
	Higher map[string][]float64
}

// Problem says what was wrong with a request, and what would be right.
type Problem struct {
	Type   string
	Status int
	Detail string
}

func (p *Problem) Error() string { return fmt.Sprintf("%d %s: %s", p.Status, p.Type, p.Detail) }

var client = &http.Client{Timeout: 30 * time.Second}

func evaluate(request map[string]any) (*Answer, error) {
	url := os.Getenv("PULLBACK_URL")
	if url == "" {
		url = "http://127.0.0.1:8000"
	}
	body, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	response, err := client.Post(url+"/v1/evaluate", "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	read := json.NewDecoder(response.Body)
	if response.StatusCode != http.StatusOK {
		problem := &Problem{}
		if err := read.Decode(problem); err != nil {
			return nil, fmt.Errorf("%s, and no problem document: %w", response.Status, err)
		}
		return nil, problem
	}
	answer := &Answer{}
	return answer, read.Decode(answer)
}

func must(answer *Answer, err error) *Answer {
	if err != nil {
		log.Fatal(err)
	}
	return answer
}

type object = map[string]any

func main() {
	// Value and gradient of one expression
	a := must(evaluate(object{"expr": "square(exp(square(x)))", "inputs": object{"x": 0.5}, "backward": true}))
	fmt.Println(a.Values["out"], a.Grads["x"])

	// The Matyas function: all partial derivatives come with one call
	a = must(evaluate(object{
		"expr":     "0.26*(x**2 + y**2) - 0.48*x*y",
		"inputs":   object{"x": 1, "y": 1},
		"backward": true,
	}))
	fmt.Println(a.Values["out"], a.Grads["x"], a.Grads["y"])

	// Forward only: nothing is kept for a gradient
	a = must(evaluate(object{"expr": "square(exp(square(x)))", "inputs": object{"x": 0.5}, "nograd": true}))
	fmt.Println(a.Values["out"])

	// sin(1) and its first six derivatives
	a = must(evaluate(object{"expr": "sin(x)", "inputs": object{"x": 1}, "backward": object{"order": 6}}))
	fmt.Print(a.Values["out"])
	for _, derivative := range a.Higher["x"] {
		fmt.Print(" ", derivative)
	}
	fmt.Println()

	// A mistake: the error says what was wrong, and what would be right
	if _, err := evaluate(object{"expr": "sine(x)", "inputs": object{"x": 1}}); err != nil {
		fmt.Println(err)
	}
}

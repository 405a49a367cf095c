// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"sync"

	"nodegadget.dev/test/e2e/guest/internal/boot"
)

// runner runs commands in a guest, one at a time.
type runner struct {
	socket string

	mu sync.Mutex
	id uint64
}

// Exec runs a command as a daemon of the guest would, and returns what it prints.
func (g *Guest) Exec(ctx context.Context, argv ...string) (string, error) {
	response, err := g.runner.ask(ctx, argv)
	command := strings.Join(argv, " ")
	switch {
	case err != nil:
		return "", fmt.Errorf("asking %s to run %s: %w", g.Name, command, err)
	case response.Error != "":
		return "", fmt.Errorf("%s: %s: %s", g.Name, command, response.Error)
	case response.Code != 0:
		return response.Stdout, fmt.Errorf("%s: %s: exit code %d: %s", g.Name, command, response.Code, strings.TrimSpace(response.Stderr))
	}
	return response.Stdout, nil
}

func (r *runner) ask(ctx context.Context, argv []string) (boot.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.id++
	request, err := json.Marshal(boot.Request{ID: r.id, Argv: argv})
	if err != nil {
		return boot.Response{}, err
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", r.socket)
	if err != nil {
		return boot.Response{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(append(request, '\n')); err != nil {
		return boot.Response{}, err
	}
	for lines := bufio.NewReader(conn); ; {
		line, err := lines.ReadBytes('\n')
		if ctx.Err() != nil {
			return boot.Response{}, ctx.Err()
		}
		if err != nil {
			return boot.Response{}, err
		}
		var response boot.Response
		if json.Unmarshal(line, &response) == nil && response.ID == r.id {
			return response, nil
		}
	}
}

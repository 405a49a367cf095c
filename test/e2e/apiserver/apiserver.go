// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"nodegadget.dev/test/e2e/cluster"
)

const (
	// token is the administrator's.
	token = "administrator"
	// startTimeout is how long the API server may take until it serves.
	startTimeout = time.Minute
	stopTimeout  = 10 * time.Second
)

// Programs are what a server consists of.
type Programs struct{ hyperkube, etcd string }

// Find looks for the programs. Module is the directory of this project's module. The
// error says what is missing.
func Find(module string) (Programs, error) {
	built, err := cluster.FindHyperkube(filepath.Join(module, "test/e2e/hyperkube"))
	if err != nil {
		return Programs{}, err
	}
	if _, err := os.Stat(built.Path); err != nil {
		return Programs{}, fmt.Errorf("needs Kubernetes, which `make test-e2e` builds: %w", err)
	}
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		return Programs{}, fmt.Errorf("needs etcd, which `make test-e2e` installs: %w", err)
	}
	return Programs{hyperkube: built.Path, etcd: etcd}, nil
}

// Server is an API server with its database.
type Server struct {
	// Config is the administrator's way in.
	Config *rest.Config

	programs  Programs
	dir       string
	processes []*process
}

// Start starts a server that keeps its files in dir, and returns when it serves. Its
// processes end with the thread that calls it, so that none outlives a test that is
// killed: the caller locks itself to its thread.
func Start(programs Programs, dir string) (*Server, error) {
	s := &Server{programs: programs, dir: dir}
	if err := s.start(); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

func (s *Server) start() error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	if err := s.writeKeys(); err != nil {
		return err
	}
	clients, peers := "http://127.0.0.1:"+ports[0], "http://127.0.0.1:"+ports[1]
	if err := s.run("etcd", s.programs.etcd, "--name=e2e", "--data-dir="+s.path("etcd"),
		"--listen-client-urls="+clients, "--advertise-client-urls="+clients,
		"--listen-peer-urls="+peers, "--initial-advertise-peer-urls="+peers, "--initial-cluster=e2e="+peers,
		"--unsafe-no-fsync"); err != nil {
		return err
	}
	if err := s.run("kube-apiserver", s.programs.hyperkube, "kube-apiserver", "--etcd-servers="+clients,
		"--bind-address=127.0.0.1", "--secure-port="+ports[2], "--cert-dir="+s.path("serving"),
		"--service-cluster-ip-range=10.0.0.0/24", "--authorization-mode=RBAC", "--token-auth-file="+s.path("tokens"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+s.path("sa.pub"), "--service-account-signing-key-file="+s.path("sa.key")); err != nil {
		return err
	}
	s.Config = &rest.Config{
		Host: "https://127.0.0.1:" + ports[2], BearerToken: token, QPS: -1,
		// It makes itself a certificate on each start.
		TLSClientConfig: rest.TLSClientConfig{Insecure: true},
	}
	return s.await()
}

// StartControllers starts the part of Kubernetes that empties namespaces.
func (s *Server) StartControllers() error {
	const config = `{"apiVersion":"v1","kind":"Config","current-context":"e2e",
"clusters":[{"name":"e2e","cluster":{"server":%q,"insecure-skip-tls-verify":true}}],
"users":[{"name":"e2e","user":{"token":%q}}],"contexts":[{"name":"e2e","context":{"cluster":"e2e","user":"e2e"}}]}`
	path := s.path("kubeconfig")
	if err := os.WriteFile(path, fmt.Appendf(nil, config, s.Config.Host, token), 0o600); err != nil {
		return err
	}
	return s.run("kube-controller-manager", s.programs.hyperkube, "kube-controller-manager", "--kubeconfig="+path,
		"--controllers=namespace-controller", "--leader-elect=false", "--secure-port=0",
		"--namespace-sync-period=2s", "--kube-api-qps=500", "--kube-api-burst=1000")
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, name) }

// writeKeys writes what tokens are proved by.
func (s *Server) writeKeys() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(s.path("sa.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(s.path("sa.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600),
		os.WriteFile(s.path("tokens"), []byte(token+",admin,admin,system:masters\n"), 0o600),
	)
}

// freePorts are ports that nobody listens on, a moment ago.
func freePorts(n int) (ports []string, err error) {
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer listener.Close()
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			return nil, err
		}
		ports = append(ports, port)
	}
	return ports, nil
}

func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	client, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	for {
		if _, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err == nil {
			return nil
		}
		for _, p := range s.processes {
			if p.ended() {
				return fmt.Errorf("%s has ended:\n%s", p.name, s.tail(p.name))
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the API server: %w\n%s", err, s.tail("kube-apiserver"))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Stop ends all processes, the last first.
func (s *Server) Stop() {
	for len(s.processes) > 0 {
		last := len(s.processes) - 1
		s.processes[last].stop()
		s.processes = s.processes[:last]
	}
}

// process is one of the server's.
type process struct {
	name string
	cmd  *exec.Cmd
	done chan struct{}
}

func (s *Server) run(name string, argv ...string) error {
	log, err := os.Create(s.path(name + ".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = s.dir, []string{"PATH=/usr/bin:/bin", "HOME=" + s.dir}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting %s: %w", name, err)
	}
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // its log has more to say than its status
	}()
	s.processes = append(s.processes, p)
	return nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) stop() {
	// Who has ended needs no signal.
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(stopTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// tail is the end of a log.
func (s *Server) tail(name string) string {
	text, err := os.ReadFile(s.path(name + ".log"))
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-15):], "\n")
}

// Drives go-git; see driver.py for what a driver takes and prints. Go reads the authority to trust from SSL_CERT_FILE.
package main

import (
	"encoding/json"
	"os"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/transport"
	"github.com/go-git/go-git/v5/plumbing/transport/http"
	"github.com/go-git/go-git/v5/storage/memory"
)

type report struct {
	Ok    bool              `json:"ok"`
	Error string            `json:"error,omitempty"`
	Refs  map[string]string `json:"refs,omitempty"`
}

func credential() transport.AuthMethod {
	password, given := os.LookupEnv("CLIENT_PASSWORD")
	if !given {
		return nil
	}
	return &http.BasicAuth{Username: os.Getenv("CLIENT_USER"), Password: password}
}

func list(url string) (map[string]string, error) {
	remote := git.NewRemote(memory.NewStorage(), &config.RemoteConfig{Name: "origin", URLs: []string{url}})
	found, err := remote.List(&git.ListOptions{Auth: credential()})
	refs := make(map[string]string)
	for _, ref := range found {
		if ref.Type() == plumbing.HashReference {
			refs[ref.Name().String()] = ref.Hash().String()
		}
	}
	return refs, err
}

func fetch(folder string) error {
	repository, err := git.PlainOpen(folder)
	if err != nil {
		return err
	}
	err = repository.Fetch(&git.FetchOptions{Auth: credential(), Tags: git.AllTags})
	if err == git.NoErrAlreadyUpToDate {
		return nil
	}
	return err
}

func push(folder string, refspecs []string) error {
	repository, err := git.PlainOpen(folder)
	if err != nil {
		return err
	}
	options := &git.PushOptions{Auth: credential()}
	for _, refspec := range refspecs {
		options.RefSpecs = append(options.RefSpecs, config.RefSpec(refspec))
	}
	return repository.Push(options)
}

func main() {
	var done report
	var err error
	switch arguments := os.Args[2:]; os.Args[1] {
	case "list":
		done.Refs, err = list(arguments[0])
	case "clone":
		_, err = git.PlainClone(arguments[1], false, &git.CloneOptions{URL: arguments[0], Auth: credential(), Tags: git.AllTags})
	case "fetch":
		err = fetch(arguments[0])
	case "push":
		err = push(arguments[0], arguments[1:])
	default:
		panic("unknown verb " + os.Args[1])
	}
	done.Ok = err == nil
	if err != nil {
		done.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(done); err != nil {
		panic(err)
	}
}

// Verifies an export of Gregal's audit log with Go's own packages for signed notes and transparency logs, which know
// nothing of Gregal. What was tampered with is tried first and must be refused, or nothing else counts.
package main

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type consistency struct {
	OldSize int64    `json:"old_size"`
	OldRoot string   `json:"old_root"`
	NewSize int64    `json:"new_size"`
	Proof   []string `json:"proof"`
}

type head struct {
	View        string        `json:"view"`
	Log         string        `json:"log"`
	Checkpoint  string        `json:"checkpoint"`
	Consistency []consistency `json:"consistency"`
}

type record struct {
	Index int64    `json:"index"`
	Body  string   `json:"body"`
	Proof []string `json:"proof"`
}

func main() {
	export, key, tiles, witness := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	h, records := read(export)
	must(h.Log == key, "the export's key is not the one that was told")
	tree := open(h.Checkpoint, key)

	refused := 0
	refuse := func(what string, err error) {
		must(err != nil, "tampered, and not refused: "+what)
		refused++
	}
	at := strings.Index(h.Checkpoint, "\n") + 1
	for place := range at + 4 {
		bad := []byte(h.Checkpoint)
		bad[place] ^= 1
		_, err := opened(string(bad), key)
		refuse(fmt.Sprintf("byte %d of the checkpoint", place), err)
	}
	for n, r := range records {
		bad := r
		bad.Body = strings.Replace(r.Body, "\"result\":\"done\"", "\"result\":\"gone\"", 1)
		if bad.Body == r.Body {
			bad.Body += " "
		}
		refuse("a body", included(bad, tree))
		bad = r
		bad.Index = (r.Index + 1) % tree.N
		refuse("a place", included(bad, tree))
		bad = r
		bad.Body = records[(n+1)%len(records)].Body
		refuse("another's body", included(bad, tree))
		if len(r.Proof) > 0 {
			bad = r
			bad.Proof = append([]string{}, r.Proof...)
			bad.Proof[n%len(r.Proof)] = strings.Repeat("0", 64)
			refuse("a proof", included(bad, tree))
		}
	}
	for _, c := range h.Consistency {
		bad := c
		bad.OldRoot = strings.Repeat("0", 64)
		refuse("an earlier root", grew(bad, tree))
		bad = c
		bad.OldSize--
		refuse("an earlier size", grew(bad, tree))
	}
	must(refused > 0, "nothing was tampered with")

	for _, r := range records {
		check(included(r, tree))
	}
	for _, c := range h.Consistency {
		check(grew(c, tree))
	}
	must(len(h.Consistency) > 0, "the export shows no consistency")
	if witness != "" {
		cosigner, err := cosignature(witness)
		check(err)
		_, err = note.Open([]byte(h.Checkpoint), note.VerifierList(cosigner))
		check(err)
		_, err = note.Open([]byte(strings.Replace(h.Checkpoint, "\n"+strconv.FormatInt(tree.N, 10)+"\n", "\n1\n", 1)), note.VerifierList(cosigner))
		refuse("a cosigned checkpoint", err)
	}
	fetched := byTiles(tiles, tree, records)
	fmt.Printf("refused %d, verified %d entries of %d in %s, %d tiles\n", refused, len(records), tree.N, h.View, fetched)
}

func read(path string) (head, []record) {
	file, err := os.Open(path)
	check(err)
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	must(lines.Scan(), "the export is empty")
	var h head
	check(json.Unmarshal(lines.Bytes(), &h))
	var records []record
	for lines.Scan() {
		var r record
		check(json.Unmarshal(lines.Bytes(), &r))
		records = append(records, r)
	}
	check(lines.Err())
	must(len(records) > 1, "the export has no entries")
	return h, records
}

func opened(text, key string) (tlog.Tree, error) {
	verifier, err := note.NewVerifier(key)
	if err != nil {
		return tlog.Tree{}, err
	}
	n, err := note.Open([]byte(text), note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, errors.New("not a checkpoint of this log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

func open(text, key string) tlog.Tree {
	tree, err := opened(text, key)
	check(err)
	return tree
}

func hashes(texts []string) ([]tlog.Hash, error) {
	var found []tlog.Hash
	for _, text := range texts {
		var hash tlog.Hash
		if n, err := hex.Decode(hash[:], []byte(text)); err != nil || n != len(hash) {
			return nil, errors.New("not a hash")
		}
		found = append(found, hash)
	}
	return found, nil
}

func included(r record, tree tlog.Tree) error {
	proof, err := hashes(r.Proof)
	if err != nil {
		return err
	}
	return tlog.CheckRecord(proof, tree.N, tree.Hash, r.Index, tlog.RecordHash([]byte(r.Body)))
}

func grew(c consistency, tree tlog.Tree) error {
	proof, err := hashes(c.Proof)
	if err != nil {
		return err
	}
	old, err := hashes([]string{c.OldRoot})
	if err != nil {
		return err
	}
	return tlog.CheckTree(proof, tree.N, tree.Hash, c.OldSize, old[0])
}

// A verifier of C2SP cosignature/v1: Go's package knows the form of notes, and leaves such signatures to others.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 72 {
		return false
	}
	said := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig[:8]), msg)
	return ed25519.Verify(c.key, []byte(said), sig[8:])
}

func cosignature(text string) (note.Verifier, error) {
	parts := strings.SplitN(text, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, errors.New("not a witness's key")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if hex.EncodeToString(sum[:4]) != parts[1] {
		return nil, errors.New("not the key's hash")
	}
	return cosigner{parts[0], binary.BigEndian.Uint32(sum[:4]), key[1:]}, nil
}

// tileReader fetches tiles as C2SP tlog-tiles serves them. Go's own paths also name the tile's height.
type tileReader struct {
	url     string
	fetched int
}

func (t *tileReader) Height() int                          { return 8 }
func (t *tileReader) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (t *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		answer, err := http.Get(t.url + "/" + path)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil || answer.StatusCode != 200 {
			return nil, fmt.Errorf("%s: %s", path, answer.Status)
		}
		t.fetched++
		all = append(all, data)
	}
	return all, nil
}

// byTiles finds every record's hash in the log's tiles, which Go authenticates against the checkpoint.
func byTiles(url string, tree tlog.Tree, records []record) int {
	reader := &tileReader{url: url}
	bad := tree
	bad.Hash[0] ^= 1
	_, err := tlog.TileHashReader(bad, reader).ReadHashes([]int64{0})
	must(err != nil, "tiles were taken for another tree's")
	for start := 0; start < len(records); start += 400 {
		var indexes []int64
		part := records[start:min(start+400, len(records))]
		for _, r := range part {
			indexes = append(indexes, tlog.StoredHashIndex(0, r.Index))
		}
		found, err := tlog.TileHashReader(tree, reader).ReadHashes(indexes)
		check(err)
		for n, r := range part {
			want := tlog.RecordHash([]byte(r.Body))
			must(bytes.Equal(found[n][:], want[:]), "a tile holds another hash than the entry has")
		}
	}
	return reader.fetched
}

func must(holds bool, otherwise string) {
	if !holds {
		check(errors.New(otherwise))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

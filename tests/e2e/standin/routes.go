package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// routes returns those of this server; what the other one has besides is not found here.
func (server *Server) routes() []Route {
	if server.generation == legacy {
		return append(sharedRoutes, legacyRoutes...)
	}
	return append(sharedRoutes, currentRoutes...)
}

var sharedRoutes = []Route{
	{"GET", "/health", everybody, (*Server).getHealth},
	{"GET", "/health/ready", everybody, (*Server).getReady},
	{"GET", "/standin", everybody, (*Server).getStandin},
	{"PUT", "/standin/shares/*/files/*", everybody, (*Server).writeFile},
	{"GET", "/standin/shares/*/files/*", everybody, (*Server).readFile},
	{"POST", "/api/v1/auth/login", everybody, (*Server).login},
	{"POST", "/api/v1/auth/refresh", everybody, (*Server).refresh},
	{"GET", "/api/v1/auth/me", account, (*Server).getMe},
	{"POST", "/api/v1/users/me/password", account, (*Server).changePassword},
	{"GET", "/api/v1/users", admin, (*Server).listUsers},
	{"POST", "/api/v1/users", admin, (*Server).createUser},
	{"GET", "/api/v1/users/*", admin, (*Server).getUser},
	{"DELETE", "/api/v1/users/*", admin, (*Server).deleteUser},
	{"POST", "/api/v1/users/*/password", admin, (*Server).resetPassword},
	{"GET", "/api/v1/shares", admin, (*Server).listShares},
	{"POST", "/api/v1/shares", admin, (*Server).createShare},
	{"GET", "/api/v1/shares/*", admin, (*Server).getShare},
	{"PUT", "/api/v1/shares/*", admin, (*Server).updateShare},
	{"DELETE", "/api/v1/shares/*", admin, (*Server).deleteShare},
	{"GET", "/api/v1/shares/*/permissions", admin, (*Server).listPermissions},
	{"PUT", "/api/v1/shares/*/permissions/users/*", admin, (*Server).setPermission},
	{"GET", "/api/v1/adapters", admin, (*Server).listAdapters},
	{"GET", "/api/v1/adapters/*", admin, (*Server).getAdapter},
	{"PUT", "/api/v1/adapters/*", admin, (*Server).updateAdapter},
}

var legacyRoutes = []Route{
	{"GET", "/health/stores", everybody, (*Server).getStoresHealth},
	{"GET", "/api/v1/metadata-stores", admin, (*Server).listMetadata},
	{"POST", "/api/v1/metadata-stores", admin, (*Server).createMetadata},
	{"GET", "/api/v1/metadata-stores/*", admin, (*Server).getMetadata},
	{"PUT", "/api/v1/metadata-stores/*", admin, (*Server).updateMetadata},
	{"DELETE", "/api/v1/metadata-stores/*", admin, (*Server).deleteMetadata},
	{"GET", "/api/v1/payload-stores", admin, (*Server).listPayloads},
	{"POST", "/api/v1/payload-stores", admin, (*Server).createPayload},
	{"GET", "/api/v1/payload-stores/*", admin, (*Server).getPayload},
	{"PUT", "/api/v1/payload-stores/*", admin, (*Server).updatePayload},
	{"DELETE", "/api/v1/payload-stores/*", admin, (*Server).deletePayload},
}

var currentRoutes = []Route{
	{"GET", "/api/v1/store/metadata", admin, (*Server).listMetadata},
	{"POST", "/api/v1/store/metadata", admin, (*Server).createMetadata},
	{"GET", "/api/v1/store/metadata/*", admin, (*Server).getMetadata},
	{"PUT", "/api/v1/store/metadata/*", admin, (*Server).updateMetadata},
	{"DELETE", "/api/v1/store/metadata/*", admin, (*Server).deleteMetadata},
	{"GET", "/api/v1/store/metadata/*/health", admin, (*Server).getMetadataHealth},
	{"GET", "/api/v1/store/metadata/*/status", admin, (*Server).getMetadataStatus},
	{"GET", "/api/v1/store/block/*", admin, (*Server).listBlocks},
	{"POST", "/api/v1/store/block/*", admin, (*Server).createBlock},
	{"GET", "/api/v1/store/block/*/*", admin, (*Server).getBlock},
	{"PUT", "/api/v1/store/block/*/*", admin, (*Server).updateBlock},
	{"DELETE", "/api/v1/store/block/*/*", admin, (*Server).deleteBlock},
	{"GET", "/api/v1/store/block/*/*/health", admin, (*Server).getBlockHealth},
	{"GET", "/api/v1/store/block/*/*/status", admin, (*Server).getBlockStatus},
	{"GET", "/api/v1/shares/*/status", admin, (*Server).getShareStatus},
	{"POST", "/api/v1/shares/*/disable", admin, (*Server).disableShare},
	{"POST", "/api/v1/shares/*/enable", admin, (*Server).enableShare},
	{"GET", "/api/v1/shares/*/adapters/nfs/config", admin, (*Server).getNFSConfig},
	{"PATCH", "/api/v1/shares/*/adapters/nfs/config", admin, (*Server).patchNFSConfig},
}

// Health is the frame of all answers below /health.
type Health struct {
	Status    string    `json:"status"`
	Timestamp time.Time `json:"timestamp"`
	Data      any       `json:"data,omitempty"`
	Error     string    `json:"error,omitempty"`
}

func healthy(data any) Answer {
	return ok(Health{Status: "healthy", Timestamp: time.Now(), Data: data})
}

// getHealth: row "GET /health on the API port": only the current server names its database.
func (server *Server) getHealth(*Call) Answer {
	uptime := time.Since(server.started).Round(time.Second)
	data := map[string]any{
		"service": "dittofs", "started_at": server.started.UTC(), "uptime": uptime.String(), "uptime_sec": int(uptime.Seconds()),
	}
	if server.generation == current {
		data["control_plane_db"] = "reachable"
	}
	return healthy(data)
}

// getReady: row "/health/ready": the legacy server is not ready until a share exists.
func (server *Server) getReady(*Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	shares := len(server.running)
	if server.generation == legacy && shares == 0 {
		return Answer{http.StatusServiceUnavailable,
			Health{Status: "unhealthy", Timestamp: time.Now(), Error: "no shares configured"}}
	}

	types := []string{}
	for _, adapter := range server.database.Adapters {
		if adapter.Enabled {
			types = append(types, adapter.Type)
		}
	}
	data := map[string]any{
		"adapters":        map[string]any{"running": len(types), "types": types},
		"metadata_stores": len(server.opened),
		"shares":          shares,
	}
	if server.generation == current {
		data["grace_period"] = map[string]any{
			"active": false, "expected_clients": 0, "reclaimed_clients": 0, "remaining_seconds": 0}
	}
	return healthy(data)
}

// getStoresHealth: row "/health/stores", which only the legacy server has: 503 with S3's error, after 5 s when S3 is down.
func (server *Server) getStoresHealth(*Call) Answer {
	server.lock.Lock()
	stores := []any{}
	for _, name := range slices.Sorted(maps.Keys(server.opened)) {
		stores = append(stores, map[string]any{
			"name": name, "type": "metadata", "status": "healthy", "latency": "4.819µs"})
	}
	var export *Export
	for _, running := range server.running {
		export = running
	}
	server.lock.Unlock()

	data := map[string]any{"metadata_stores": stores}
	if export == nil {
		return healthy(data)
	}

	block := map[string]any{"name": "block-store", "type": "block", "status": "healthy"}
	data["block_store"] = block
	begun := time.Now()
	err := export.check()
	block["latency"] = time.Since(begun).String()
	if err != nil {
		block["status"], block["error"] = "unhealthy", err.Error()
		return Answer{http.StatusServiceUnavailable, Health{Status: "unhealthy", Timestamp: time.Now(), Data: data}}
	}
	return healthy(data)
}

// getStandin reports, for a test, what no API of the real server tells.
func (server *Server) getStandin(*Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	report := fmt.Sprintf("generation: %s\nboots: %d\nusers: %s\n",
		server.generation, server.database.Boots, server.database.Mark)
	for name, value := range server.environ {
		report += fmt.Sprintf("%s: %s\n", name, value)
	}
	return ok([]byte(report))
}

// enrolAdapters creates both adapters at the first boot.
func (server *Server) enrolAdapters() {
	if len(server.database.Adapters) > 0 {
		return
	}
	now := time.Now()
	server.database.Adapters = []*Adapter{
		{ID: newID(), Type: "nfs", Port: 12049, Enabled: true, Created: now, Updated: now},
		{ID: newID(), Type: "smb", Port: 1445, Enabled: true, Created: now, Updated: now},
	}
	server.database.save()
}

func (server *Server) describeAdapter(adapter *Adapter) map[string]any {
	described := map[string]any{
		"id": adapter.ID, "type": adapter.Type, "enabled": adapter.Enabled, "running": adapter.Enabled,
		"port": adapter.Port, "created_at": adapter.Created, "updated_at": adapter.Updated,
	}
	if server.generation == current {
		described["status"] = map[string]any{"status": "healthy", "checked_at": time.Now()}
	}
	return described
}

func (server *Server) listAdapters(*Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	described := []any{}
	for _, adapter := range server.database.Adapters {
		described = append(described, server.describeAdapter(adapter))
	}
	return ok(described)
}

func (server *Server) adapter(name string) *Adapter {
	return first(server.database.Adapters, func(adapter *Adapter) bool { return adapter.Type == name })
}

func (server *Server) getAdapter(call *Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	if call.Names[0] == "ports" && server.generation == current {
		ports := []any{}
		for _, adapter := range server.database.Adapters {
			ports = append(ports, map[string]any{
				"type": adapter.Type, "port": adapter.Port, "enabled": adapter.Enabled, "running": adapter.Enabled})
		}
		return ok(ports)
	}
	if adapter := server.adapter(call.Names[0]); adapter != nil {
		return ok(server.describeAdapter(adapter))
	}
	return notFound("Adapter not found")
}

func (server *Server) updateAdapter(call *Call) Answer {
	var change struct{ Enabled *bool }
	if err := call.decode(&change); err != nil {
		return bad(err.Error())
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	adapter := server.adapter(call.Names[0])
	if adapter == nil {
		return notFound("Adapter not found")
	}
	if change.Enabled != nil {
		adapter.Enabled = *change.Enabled
	}
	adapter.Updated = time.Now()
	server.database.save()
	return ok(server.describeAdapter(adapter))
}

// serveMetrics: section "Metrics" of the record. The real server notices an outage after about 85 s, this one at once.
func (server *Server) serveMetrics(writer http.ResponseWriter, request *http.Request) {
	if request.URL.Path != "/metrics" {
		http.NotFound(writer, request)
		return
	}

	var lines []string
	if server.generation == legacy {
		lines = append(lines, "dittofs_nfs_active_connections 0", "dittofs_nfs_connections_accepted_total 0",
			"dittofs_nfs_connections_closed_total 0", "dittofs_nfs_connections_force_closed_total 0")
	} else {
		lines = append(lines, fmt.Sprintf("dittofs_build_info{commit=%q,version=%q} 1", "none", version))
		for name, export := range server.exports() {
			if export.bucket == nil {
				continue
			}
			up := 1
			if export.check() != nil {
				up = 0
			}
			lines = append(lines, fmt.Sprintf("dittofs_remote_up{share=%q} %d", name, up))
		}
	}
	writer.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	fmt.Fprintln(writer, strings.Join(lines, "\n"))
}

// version is what a release of the current server reports.
const version = "v0.29.0"

package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// enrolAdmin: section "Login": the password of the environment counts only at the first boot, and the name is always admin.
func (server *Server) enrolAdmin() {
	if len(server.database.Users) > 0 {
		return
	}

	password := os.Getenv("DITTOFS_ADMIN_INITIAL_PASSWORD")
	user := &User{ID: newID(), Username: "admin", Name: "Administrator", Role: "admin", Enabled: true,
		MustChange: password == "", Created: time.Now()}
	if password == "" {
		password = rand.Text()
	}
	user.setPassword(password)
	server.database.Users = append(server.database.Users, user)
	server.database.save()

	if server.generation == legacy {
		// It really does print it, whoever chose it.
		fmt.Printf("Admin user created: username admin, password %s\n", password)
	}
}

func (user *User) setPassword(password string) {
	user.Salt = rand.Text()
	user.Hash = hashOf([]byte(user.Salt + password))
}

func (user *User) hasPassword(password string) bool {
	return hmac.Equal([]byte(user.Hash), []byte(hashOf([]byte(user.Salt+password))))
}

// Claims are those of a token. They are signed with the secret of the environment: a token outlives a restart.
type Claims struct {
	Subject string `json:"sub"`
	Kind    string `json:"token_type"`
	Expires int64  `json:"exp"`
	ID      string `json:"jti"`
}

func (server *Server) token(user *User, kind string, lifetime time.Duration) string {
	claims, _ := json.Marshal(Claims{user.Username, kind, time.Now().Add(lifetime).Unix(), newID()})
	encoding := base64.RawURLEncoding
	text := encoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encoding.EncodeToString(claims)
	return text + "." + encoding.EncodeToString(server.mac(text))
}

func (server *Server) mac(text string) []byte {
	code := hmac.New(sha256.New, []byte(server.secret))
	code.Write([]byte(text))
	return code.Sum(nil)
}

// bearer returns the user of a valid token of this kind, or nil.
func (server *Server) bearer(token, kind string) *User {
	text, signature, _ := cutLast(token, ".")
	_, body, _ := strings.Cut(text, ".")
	mac, err := base64.RawURLEncoding.DecodeString(signature)
	content, bodyErr := base64.RawURLEncoding.DecodeString(body)

	var claims Claims
	if err != nil || bodyErr != nil || !hmac.Equal(mac, server.mac(text)) || json.Unmarshal(content, &claims) != nil {
		return nil
	}
	if claims.Kind != kind || time.Now().Unix() >= claims.Expires {
		return nil
	}
	return server.database.user(claims.Subject)
}

func cutLast(text, separator string) (before, after string, found bool) {
	if index := strings.LastIndex(text, separator); index >= 0 {
		return text[:index], text[index+len(separator):], true
	}
	return text, "", false
}

// refuse says why the caller may not use the route, or nil: table "plain-text line".
func (server *Server) refuse(call *Call, access Level) *Answer {
	if access == everybody {
		return nil
	}
	header := call.Header.Get("Authorization")
	if header == "" {
		return &Answer{http.StatusUnauthorized, Line("Authorization header required")}
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	token, _ := strings.CutPrefix(header, "Bearer ")
	call.User = server.bearer(token, "access")
	switch {
	case call.User == nil:
		return &Answer{http.StatusUnauthorized, Line("Invalid or expired token")}
	case access == account:
		return nil
	case call.User.MustChange && server.generation == legacy:
		return &Answer{http.StatusForbidden,
			Line("Password change required. Please change your password before proceeding.")}
	case call.User.MustChange:
		return &Answer{http.StatusForbidden, Line(fmt.Sprintf("account %[1]q must set a new password before performing "+
			"other operations; run 'dfsctl user change-password' (as %[1]q) to set one", call.User.Username))}
	case call.User.Role != "admin":
		return &Answer{http.StatusForbidden, Line("Admin access required")}
	}
	return nil
}

func (server *Server) login(call *Call) Answer {
	var credentials struct{ Username, Password string }
	if err := call.decode(&credentials); err != nil {
		return bad(err.Error())
	}
	if credentials.Username == "" || credentials.Password == "" {
		return bad("Username and password are required")
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	user := server.database.user(credentials.Username)
	if user == nil || !user.hasPassword(credentials.Password) {
		return problem(http.StatusUnauthorized, "Invalid username or password")
	}
	if !user.Enabled {
		return problem(http.StatusForbidden, "User account is disabled")
	}
	now := time.Now()
	user.LastLogin = &now
	server.database.save()
	return ok(server.session(user))
}

func (server *Server) session(user *User) map[string]any {
	lifetime := server.settings.AccessDuration
	return map[string]any{
		"access_token":  server.token(user, "access", lifetime),
		"refresh_token": server.token(user, "refresh", server.settings.RefreshDuration),
		"token_type":    "Bearer",
		"expires_in":    int(lifetime.Seconds()),
		"expires_at":    time.Now().Add(lifetime),
		"user":          server.describeUser(user),
	}
}

func (server *Server) describeUser(user *User) map[string]any {
	described := map[string]any{
		"id": user.ID, "username": user.Username, "role": user.Role,
		"enabled": user.Enabled, "must_change_password": user.MustChange,
	}
	if user.Name != "" {
		described["display_name"], described["uid"], described["groups"] = user.Name, 0, []string{"admins"}
	}
	if server.generation == current {
		described["created_at"] = user.Created
		if user.LastLogin != nil {
			described["last_login"] = user.LastLogin
		}
	}
	return described
}

func (server *Server) refresh(call *Call) Answer {
	var body struct {
		Token string `json:"refresh_token"`
	}
	if err := call.decode(&body); err != nil {
		return bad(err.Error())
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	if user := server.bearer(body.Token, "refresh"); user != nil {
		return ok(server.session(user))
	}
	return problem(http.StatusUnauthorized, "Invalid refresh token")
}

func (server *Server) getMe(call *Call) Answer {
	return ok(server.describeUser(call.User))
}

func (server *Server) changePassword(call *Call) Answer {
	var body struct {
		Current string `json:"current_password"`
		New     string `json:"new_password"`
	}
	if err := call.decode(&body); err != nil {
		return bad(err.Error())
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	if !call.User.MustChange && !call.User.hasPassword(body.Current) {
		return problem(http.StatusUnauthorized, "Current password is incorrect")
	}
	if len(body.New) < 8 {
		return problem(http.StatusInternalServerError, "Failed to hash password")
	}
	call.User.setPassword(body.New)
	call.User.MustChange = false
	server.database.save()
	return ok(server.session(call.User))
}

func (server *Server) listUsers(*Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	described := []any{}
	for _, user := range server.database.Users {
		described = append(described, server.describeUser(user))
	}
	return ok(described)
}

func (server *Server) createUser(call *Call) Answer {
	var body struct{ Username, Password, Role string }
	if err := call.decode(&body); err != nil {
		return bad(err.Error())
	}
	if body.Username == "" || body.Password == "" {
		return bad("Username and password are required")
	}
	roles, message := []string{"", "user", "admin"}, "Invalid role. Must be 'user' or 'admin'"
	if server.generation == current {
		roles, message = append(roles, "operator"), "Invalid role. Must be 'user', 'admin', or 'operator'"
	}
	if !slices.Contains(roles, body.Role) {
		return bad(message)
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	if server.database.user(body.Username) != nil {
		return conflict("User already exists")
	}
	user := &User{ID: newID(), Username: body.Username, Role: body.Role,
		Enabled: true, MustChange: body.Role == "admin", Created: time.Now()}
	if user.Role == "" {
		user.Role = "user"
	}
	user.setPassword(body.Password)
	server.database.Users = append(server.database.Users, user)
	server.database.save()
	return created(server.describeUser(user))
}

func (server *Server) getUser(call *Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	if user := server.database.user(call.Names[0]); user != nil {
		return ok(server.describeUser(user))
	}
	return notFound("User not found")
}

func (server *Server) deleteUser(call *Call) Answer {
	server.lock.Lock()
	defer server.lock.Unlock()

	user := server.database.user(call.Names[0])
	switch {
	case user == nil:
		return notFound("User not found")
	case user.Username == "admin":
		return problem(http.StatusForbidden, "Cannot delete admin user")
	}
	server.database.Users = without(server.database.Users, user)
	server.database.save()
	return noContent()
}

func (server *Server) resetPassword(call *Call) Answer {
	var body struct {
		New string `json:"new_password"`
	}
	if err := call.decode(&body); err != nil {
		return bad(err.Error())
	}

	server.lock.Lock()
	defer server.lock.Unlock()

	user := server.database.user(call.Names[0])
	if user == nil {
		return notFound("User not found")
	}
	user.setPassword(body.New)
	server.database.save()
	return noContent()
}

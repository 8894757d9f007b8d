// A real OpenID provider (npm `oidc-provider`) on loopback. Prints its issuer; reads the redirect address it should allow.
import http from "node:http";
import readline from "node:readline";
import Provider from "oidc-provider";

const server = http.createServer();
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const issuer = `http://127.0.0.1:${server.address().port}`;
console.log(issuer);
const [redirect] = await new Promise((heard) => readline.createInterface({ input: process.stdin }).once("line", (line) => heard([line])));

const provider = new Provider(issuer, {
  clients: [{ client_id: "gregal", token_endpoint_auth_method: "none", redirect_uris: [redirect], response_types: ["code"], grant_types: ["authorization_code"] }],
  pkce: { required: () => true },
  // Many providers put the address into the identity token; the specification would have it asked for apart.
  conformIdTokenClaims: false,
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
  // Whoever signs in as NAME is NAME@example.eu; nobody has verified mallory's.
  findAccount: (_, id) => ({
    accountId: id,
    claims: () => ({ sub: id, email: `${id}@example.eu`, email_verified: id !== "mallory", name: id }),
  }),
});
server.on("request", provider.callback());
console.log("ready");

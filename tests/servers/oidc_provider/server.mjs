// An OpenID provider for the tests: oidc-provider on a free loopback port. Run with the folder that has node_modules as current directory.
//
// It ends when its standard input ends, so a killed test run leaves nothing behind, and writes its port to the file named by PAUTH_READY_FILE
// once it accepts connections. PAUTH_CLIENTS is the JSON of the clients, PAUTH_ACCESS_TTL and PAUTH_REFRESH_TTL are seconds.
import { generateKeyPairSync } from 'node:crypto';
import { renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const { default: Provider } = await import(pathToFileURL(join(process.cwd(), 'node_modules/oidc-provider/lib/index.js')));
const { PAUTH_READY_FILE, PAUTH_CLIENTS, PAUTH_ACCESS_TTL = '3600', PAUTH_REFRESH_TTL = '86400' } = process.env;

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const { port } = server.address();

const jwk = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' });
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: JSON.parse(PAUTH_CLIENTS),
  jwks: { keys: [{ ...jwk, use: 'sig', kid: 'test-key' }] },
  cookies: { keys: ['cookies of the tests only'] },
  // Any name may log in, with any password; consent is one more form. That is what devInteractions do.
  features: {
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    devInteractions: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    userinfo: { enabled: true },
  },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: `Name of ${id}`, email: `${id}@example.com`, email_verified: true }),
  }),
  claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'] },
  pkce: { required: () => true },
  issueRefreshToken: (ctx, client) => client.grantTypeAllowed('refresh_token'),
  // Every refresh gives a new refresh token; a spent one that comes back revokes the whole grant (RFC 9700 section 4.14.2).
  rotateRefreshToken: true,
  expiresWithSession: () => false,
  ttl: {
    AccessToken: Number(PAUTH_ACCESS_TTL),
    ClientCredentials: Number(PAUTH_ACCESS_TTL),
    RefreshToken: Number(PAUTH_REFRESH_TTL),
    AuthorizationCode: 60,
    DeviceCode: 600,
    IdToken: 3600,
    Interaction: 600,
    Session: 86400,
    Grant: 86400,
  },
});
provider.on('server_error', (ctx, error) => console.error(error));
server.on('request', provider.callback());

writeFileSync(`${PAUTH_READY_FILE}.part`, String(port));
renameSync(`${PAUTH_READY_FILE}.part`, PAUTH_READY_FILE);

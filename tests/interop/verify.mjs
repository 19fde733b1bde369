// Asks jose and fast-jwt about each text in a file of cases, with our key set: prints `library case verdict`.
// Imported from the folder that they are installed in.
import { createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [, , folder, file] = process.argv;
const require = createRequire(pathToFileURL(`${folder}/package.json`));
const jose = await import(pathToFileURL(require.resolve("jose")));
const { createVerifier } = require("fast-jwt");
const { jwks, issuer, audience, sub, cases } = JSON.parse(readFileSync(file, "utf8"));

const byJose = async (text) => {
  const keys = jose.createLocalJWKSet(jwks);
  const options = { issuer, audience, typ: "passport+jwt", algorithms: ["EdDSA", "Ed25519"] };
  return (await jose.jwtVerify(text, keys, options)).payload;
};

const byFastJwt = async (text) => {
  const key = async ({ header }) => {
    const jwk = jwks.keys.find((one) => one.kid === header.kid);
    if (!jwk) throw new Error("unknown kid");
    return createPublicKey({ key: jwk, format: "jwk" }).export({ type: "spki", format: "pem" });
  };
  const verify = createVerifier({ key, algorithms: ["EdDSA"], allowedIss: issuer, allowedAud: audience });
  return verify(text);
};

for (const [name, verify] of [["jose", byJose], ["fast-jwt", byFastJwt]]) {
  for (const [which, text] of Object.entries(cases)) {
    let verdict = "refused";
    try {
      verdict = (await verify(text)).sub === sub ? "accepted" : "misread";
    } catch (error) {
      console.error(name, which, String(error));
    }
    console.log(name, which, verdict);
  }
}

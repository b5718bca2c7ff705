# Copyright (c) 2026, the pixels.sandbox authors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause
"""The public services that policies can name by one word; product data, and the only place that has their names.

Whatever is changed here raises PRESETS_VERSION: sandboxes that were given an older one are then told apart.
"""

from __future__ import annotations

from collections.abc import Mapping

PRESETS_VERSION = 1

#: Names by preset, as entries of a policy are written. Those without ports get 80 and 443.
PRESETS: Mapping[str, tuple[str, ...]] = {
    "ai": (
        "api.anthropic.com",
        "api.openai.com",
        "auth.openai.com",
        "chatgpt.com",
        "claude.ai",
        "console.anthropic.com",
        "generativelanguage.googleapis.com",
        "models.dev",
        "openrouter.ai",
        "opencode.ai",
        "platform.claude.com",
        "statsig.anthropic.com",
    ),
    "registries": (
        "crates.io",
        "files.pythonhosted.org",
        "index.crates.io",
        "proxy.golang.org",
        "pypi.org",
        "registry.npmjs.org",
        "rubygems.org",
        "static.crates.io",
        "sum.golang.org",
    ),
    "containers": (
        "auth.docker.io",
        "ghcr.io",
        "pkg-containers.githubusercontent.com",
        "production.cloudflare.docker.com",
        "quay.io",
        "registry-1.docker.io",
    ),
    "git": (
        "api.github.com",
        "bitbucket.org:22,80,443",
        "codeload.github.com",
        "codeberg.org:22,80,443",
        "github-releases.githubusercontent.com",
        "github.com:22,80,443",
        "gitlab.com:22,80,443",
        "objects.githubusercontent.com",
        "raw.githubusercontent.com",
        "release-assets.githubusercontent.com",
        "tmaproduction.blob.core.windows.net",
        "uploads.github.com",
    ),
    "os": (
        "archive.ubuntu.com",
        "deb.debian.org",
        "keyserver.ubuntu.com",
        "ports.ubuntu.com",
        "security.debian.org",
        "security.ubuntu.com",
    ),
    "toolchains": (
        "deb.nodesource.com",
        "dl.google.com",
        "fulcio.sigstore.dev",
        "go.dev",
        "mise.jdx.dev",
        "mise.run",
        "mise-versions.jdx.dev",
        "nodejs.org",
        "rekor.sigstore.dev",
        "sh.rustup.rs",
        "static.rust-lang.org",
        "tuf-repo-cdn.sigstore.dev",
    ),
}

#: Words that stand for several of them.
SUMS: Mapping[str, tuple[str, ...]] = {"agent": tuple(PRESETS)}

#: Below these anybody can rent a name, so a wildcard there would let through whoever pays for one.
MULTI_TENANT = (
    "amazonaws.com",
    "appspot.com",
    "azure.com",
    "azureedge.net",
    "azurewebsites.net",
    "akamaihd.net",
    "akamaized.net",
    "blogspot.com",
    "cloudapp.net",
    "cloudflarestorage.com",
    "cloudfront.net",
    "core.windows.net",
    "digitaloceanspaces.com",
    "duckdns.org",
    "edgekey.net",
    "fastly.net",
    "firebaseapp.com",
    "fly.dev",
    "github.io",
    "githubusercontent.com",
    "gitlab.io",
    "googleapis.com",
    "googleusercontent.com",
    "herokuapp.com",
    "hf.space",
    "netlify.app",
    "ngrok.app",
    "ngrok.io",
    "ngrok-free.app",
    "onrender.com",
    "pages.dev",
    "r2.dev",
    "railway.app",
    "repl.co",
    "replit.dev",
    "run.app",
    "sslip.io",
    "trycloudflare.com",
    "vercel.app",
    "web.app",
    "webhook.site",
    "workers.dev",
)

#: Second labels under which countries register names, as in co.uk: a wildcard there is one for a whole country.
REGISTRY_LABELS = (
    "ac",
    "co",
    "com",
    "edu",
    "gob",
    "gov",
    "go",
    "ltd",
    "mil",
    "ne",
    "net",
    "nom",
    "or",
    "org",
    "plc",
    "sch",
)

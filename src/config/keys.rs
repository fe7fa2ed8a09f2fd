//! Every key that is known, and whether something acts on it.
//!
//! A row is a place and the names there. In a place, `*` stands for any name and `[]` for any element of a list.

/// Keys that Offshoot acts on.
pub(super) const ACTED_ON: &[(&str, &str)] = &[
    ("", "$schema"),
    ("env", "*"),
    ("env.vars", "*"),
    ("agents.list.[]", "id"),
    ("agents.list.[]", AGENT),
    ("agents.list.[].model", MODEL),
    ("agents.list.[].tools", TOOLS),
    ("agents.list.[].subagents", AGENT_SUBAGENTS),
    ("agents.list.[].recovery", RECOVERY),
    ("agents.list.[].subagents.model", MODEL),
    ("agents.entries.*", AGENT),
    ("agents.entries.*.model", MODEL),
    ("agents.entries.*.tools", TOOLS),
    ("agents.entries.*.subagents", AGENT_SUBAGENTS),
    ("agents.entries.*.recovery", RECOVERY),
    ("agents.entries.*.subagents.model", MODEL),
    (
        "agents.defaults",
        "model models maxConcurrent timeoutSeconds systemPromptOverride llm subagents recovery",
    ),
    ("agents.defaults.recovery", RECOVERY),
    ("agents.defaults.recovery", "grace"),
    ("agents.defaults.model", MODEL),
    ("agents.defaults.models.*", "alias"),
    ("agents.defaults.llm", "idleTimeoutSeconds"),
    (
        "agents.defaults.subagents",
        "maxConcurrent maxSpawnDepth maxChildrenPerAgent maxDescendants runTimeoutSeconds \
         allowAgents requireAgentId model archiveAfterMinutes exportDeleted",
    ),
    ("agents.defaults.subagents.model", MODEL),
    ("models.providers.*", "baseUrl api apiKey headers timeoutSeconds models"),
    ("models.providers.*.apiKey", SECRET_REF),
    ("models.providers.*.headers", "*"),
    ("models.providers.*.headers.*", SECRET_REF),
    ("models.providers.*.models.[]", "id api maxTokens compat cost"),
    ("models.providers.*.models.[].cost", "input output cacheRead cacheWrite"),
    ("models.providers.*.models.[].compat", "supportsUsageInStreaming supportsTools maxTokensField"),
    ("tools", TOOLS),
    ("tools.subagents.tools", "allow alsoAllow deny"),
    ("tools.sessions", "visibility"),
    ("store", "durability keepRuns"),
    ("diagnostics", "enabled"),
    ("diagnostics.otel", "enabled endpoint headers serviceName sampleRate traces propagate"),
    ("diagnostics.otel.headers", "*"),
    ("diagnostics.otel.headers.*", SECRET_REF),
    ("gateway", "port mode bind customBindHost handshakeTimeoutMs trustedProxies allowRealIpFallback"),
    ("gateway.auth", "mode token password"),
    ("gateway.auth.token", SECRET_REF),
    ("gateway.auth.password", SECRET_REF),
    ("gateway.auth.rateLimit", "maxAttempts windowMs lockoutMs exemptLoopback"),
    ("gateway.auth.trustedProxy", "userHeader requiredHeaders allowUsers allowLoopback"),
    (
        "gateway.controlUi",
        "enabled basePath root allowedOrigins embedSandbox allowExternalEmbedUrls \
         dangerouslyAllowHostHeaderOriginFallback allowInsecureAuth dangerouslyDisableDeviceAuth",
    ),
    ("gateway.tools", "allow deny"),
    ("gateway.metrics", "enabled auth"),
    ("gateway.reload", "mode debounceMs"),
    ("gateway.watch", "silentAfterSeconds"),
    ("gateway.tls", "enabled autoGenerate certPath keyPath"),
    ("gateway.http.endpoints.chatCompletions", "enabled maxBodyBytes"),
    ("gateway.http.endpoints.responses", "enabled maxBodyBytes"),
    (
        "hooks",
        "enabled path token maxBodyBytes defaultSessionKey allowRequestSessionKey allowedSessionKeyPrefixes \
         allowedAgentIds",
    ),
    ("hooks.token", SECRET_REF),
    ("logging", "level file maxFileBytes maxFiles consoleLevel"),
];

/// Keys of OpenClaw, of either generation, that nothing here acts on.
pub(super) const NOT_ACTED_ON: &[(&str, &str)] = &[
    (
        "",
        "meta wizard cli update browser ui secrets auth acp nodeHost bindings broadcast audio \
         media messages commands approvals session cron web channels discovery canvasHost talk memory mcp \
         skills plugins telemetry accessGroups worktreeRoot worktreeAcceleration security attachments tts \
         transcripts cloudWorkers desktop surfaces proxy",
    ),
    ("env", "shellEnv"),
    ("logging", "consoleStyle redactSensitive redactPatterns"),
    ("diagnostics", "flags cacheTrace stuckSessionWarnMs stuckSessionAbortMs memoryPressureSnapshot"),
    (
        "diagnostics.otel",
        "protocol metrics logs flushIntervalMs captureContent tracesEndpoint metricsEndpoint logsEndpoint",
    ),
    ("agents", "ownership"),
    ("agents.list.[]", AGENT_REST),
    ("agents.list.[].tools", AGENT_TOOLS_REST),
    ("agents.list.[].subagents", "thinking"),
    ("agents.entries.*", AGENT_REST),
    ("agents.entries.*.tools", AGENT_TOOLS_REST),
    ("agents.entries.*.subagents", "thinking"),
    (
        "agents.defaults",
        "workspace thinkingDefault reasoningDefault fastModeDefault verboseDefault elevatedDefault contextTokens \
         bootstrapMaxChars bootstrapTotalMaxChars skipBootstrap heartbeat compaction contextPruning \
         blockStreamingDefault blockStreamingBreak blockStreamingChunk blockStreamingCoalesce humanDelay typingMode \
         typingIntervalSeconds sandbox imageModel pdfModel imageGenerationModel videoGenerationModel \
         musicGenerationModel mediaMaxMb imageMaxDimensionPx params skills userTimezone timeFormat \
         envelopeTimezone envelopeTimestamp envelopeElapsed memorySearch systemAgent modelPolicy repoRoot cliBackends",
    ),
    ("agents.defaults.models.*", "params streaming agentRuntime"),
    ("agents.defaults.subagents", "announceTimeoutMs thinking delegationMode"),
    ("models", "mode bedrockDiscovery"),
    (
        "models.providers.*",
        "auth authHeader request injectNumCtxForOpenAICompat agentRuntime localService maxTokens params region",
    ),
    ("models.providers.*.models.[]", "name reasoning input contextWindow contextTokens headers"),
    (
        "models.providers.*.models.[].compat",
        "supportsStore supportsDeveloperRole supportsReasoningEffort supportsStrictMode thinkingFormat \
         requiresToolResultName requiresAssistantAfterToolResult requiresThinkingAsText requiresMistralToolIds \
         requiresStringContent toolSchemaProfile unsupportedToolSchemaKeywords",
    ),
    (
        "tools",
        "byProvider toolsBySender exec fs web media links message agentToAgent elevated loopDetection sandbox \
         experimental toolSearch",
    ),
    ("gateway", "channelHealthCheckMinutes channelStaleEventThresholdMinutes channelMaxRestartsPerHour"),
    ("gateway.auth", "allowTailscale identityScopes"),
    ("gateway.auth.trustedProxy", "deviceAutoApprove cloudflareAccessOidc"),
    ("gateway.webchat", "chatHistoryMaxChars"),
    ("gateway.remote", "url transport token password tlsFingerprint sshTarget sshIdentity"),
    ("gateway.reload", "deferralTimeoutMs"),
    ("gateway.tls", "caPath"),
    ("gateway.http.endpoints.chatCompletions", "maxImageParts maxTotalImageBytes images"),
    ("gateway.http.endpoints.responses", "maxUrlParts files images"),
    ("gateway.http.securityHeaders", "strictTransportSecurity"),
    ("hooks", "presets mappings transformsDir gmail internal"),
    ("gateway.tailscale", "mode resetOnExit"),
    ("gateway.nodes", "allowCommands denyCommands"),
    ("gateway.nodes.browser", "mode node"),
    ("gateway.nodes.commands", "allow deny"),
    ("gateway.nodes.pairing", "autoApproveCidrs autoApproveLocal sshVerify"),
    ("gateway.push.apns.relay", "baseUrl timeoutMs"),
];

const AGENT: &str = "default name model systemPromptOverride tools subagents recovery";
const AGENT_REST: &str = "workspace agentDir thinkingDefault reasoningDefault fastModeDefault verboseDefault \
    skills identity groupChat heartbeat memorySearch sandbox params runtime modelPolicy";
const RECOVERY: &str = "mode maxAge maxAttempts";
const AGENT_SUBAGENTS: &str = "allowAgents model requireAgentId";
const AGENT_TOOLS_REST: &str = "byProvider elevated exec fs sandbox loopDetection toolsBySender message";
const MODEL: &str = "primary fallbacks";
const SECRET_REF: &str = "source provider id";
const TOOLS: &str = "profile allow alsoAllow deny";

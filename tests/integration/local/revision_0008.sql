CREATE TABLE public.aggregated_hours (
    hour timestamp with time zone NOT NULL,
    requests bigint NOT NULL,
    aggregated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    duration_ms double precision NOT NULL
);
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.api_keys (
    id character varying NOT NULL,
    user_id character varying NOT NULL,
    name character varying NOT NULL,
    prefix character varying NOT NULL,
    key_hash bytea NOT NULL,
    scopes character varying[] NOT NULL,
    allowed_routers character varying[],
    active boolean NOT NULL,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    rotated_from character varying
);
CREATE TABLE public.attempts (
    user_id character varying NOT NULL,
    request_id character varying NOT NULL,
    seq integer NOT NULL,
    model character varying NOT NULL,
    provider character varying NOT NULL,
    status character varying NOT NULL,
    error_type character varying,
    http_status integer,
    message_encrypted bytea,
    latency_ms double precision NOT NULL,
    ttft_ms double precision,
    cost_usd double precision,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    started_at timestamp with time zone NOT NULL,
    deployment character varying DEFAULT ''::character varying NOT NULL
);
CREATE TABLE public.audit_log (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    user_id character varying NOT NULL,
    actor character varying NOT NULL,
    action character varying NOT NULL,
    kind character varying NOT NULL,
    subject character varying NOT NULL,
    before jsonb,
    after jsonb
);
ALTER TABLE public.audit_log ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_log_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.claims (
    user_id character varying NOT NULL,
    request_id character varying NOT NULL,
    owner character varying NOT NULL,
    claimed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.exported_files (
    path character varying NOT NULL,
    hour timestamp with time zone NOT NULL,
    recorded_hour timestamp with time zone NOT NULL,
    revision integer NOT NULL,
    exported_revision integer NOT NULL,
    requests bigint NOT NULL,
    bytes bigint NOT NULL,
    exported_at timestamp with time zone
);
CREATE TABLE public.feedback (
    user_id character varying NOT NULL,
    request_id character varying NOT NULL,
    api_key_id character varying NOT NULL,
    source character varying NOT NULL,
    router_id character varying NOT NULL,
    model character varying NOT NULL,
    score double precision NOT NULL,
    comment_encrypted bytea,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.hourly_baseline_totals (
    hour timestamp with time zone NOT NULL,
    user_id character varying NOT NULL,
    baseline character varying NOT NULL,
    requests bigint NOT NULL,
    estimated bigint NOT NULL,
    cost_usd double precision NOT NULL,
    actual_cost_usd double precision NOT NULL,
    carbon_requests bigint NOT NULL,
    carbon_g double precision NOT NULL,
    actual_carbon_g double precision NOT NULL
);
CREATE TABLE public.hourly_baselines (
    hour timestamp with time zone NOT NULL,
    user_id character varying NOT NULL,
    router_id character varying NOT NULL,
    model character varying NOT NULL,
    provider character varying NOT NULL,
    baseline character varying NOT NULL,
    requests bigint NOT NULL,
    estimated bigint NOT NULL,
    cost_usd double precision NOT NULL,
    actual_cost_usd double precision NOT NULL,
    carbon_requests bigint NOT NULL,
    carbon_g double precision NOT NULL,
    actual_carbon_g double precision NOT NULL
);
CREATE TABLE public.hourly_metrics (
    hour timestamp with time zone NOT NULL,
    user_id character varying NOT NULL,
    router_id character varying NOT NULL,
    model character varying NOT NULL,
    provider character varying NOT NULL,
    requests bigint NOT NULL,
    success_count bigint NOT NULL,
    success_rate double precision NOT NULL,
    total_latency_ms double precision NOT NULL,
    avg_latency_ms double precision NOT NULL,
    total_cost_usd double precision NOT NULL,
    avg_cost_usd double precision,
    p50_latency_ms double precision,
    p95_latency_ms double precision,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    p99_latency_ms double precision,
    p50_ttft_ms double precision,
    p50_overhead_ms double precision,
    avg_quality double precision,
    cached_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    failed_count bigint NOT NULL,
    canceled_count bigint NOT NULL,
    fallback_count bigint NOT NULL,
    degraded_count bigint NOT NULL,
    explored_count bigint NOT NULL,
    attempt_count bigint NOT NULL,
    known_cost_count bigint NOT NULL,
    unknown_cost_count bigint NOT NULL,
    unknown_carbon_count bigint NOT NULL,
    quality_count bigint NOT NULL,
    total_carbon_g double precision NOT NULL
);
CREATE TABLE public.hourly_totals (
    hour timestamp with time zone NOT NULL,
    user_id character varying NOT NULL,
    model character varying NOT NULL,
    requests bigint NOT NULL,
    failed_count bigint NOT NULL,
    canceled_count bigint NOT NULL,
    fallback_count bigint NOT NULL,
    total_cost_usd double precision NOT NULL,
    unknown_cost_count bigint NOT NULL,
    total_carbon_g double precision NOT NULL,
    unknown_carbon_count bigint NOT NULL
);
CREATE TABLE public.instances (
    id character varying NOT NULL,
    heartbeat_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    host character varying NOT NULL
);
CREATE TABLE public.judgements (
    user_id character varying NOT NULL,
    request_id character varying NOT NULL,
    judge_model character varying NOT NULL,
    rubric character varying NOT NULL,
    job_user_id character varying NOT NULL,
    job_id character varying NOT NULL,
    status character varying NOT NULL,
    score double precision,
    reason_encrypted bytea,
    error_type character varying,
    calls integer NOT NULL,
    estimated_usd double precision NOT NULL,
    cost_usd double precision NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone
);
CREATE TABLE public.metric_progress (
    name character varying NOT NULL,
    through timestamp with time zone NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.models (
    user_id character varying NOT NULL,
    id character varying NOT NULL,
    body jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.outbox (
    id bigint NOT NULL,
    user_id character varying NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    point jsonb NOT NULL,
    embedding bytea NOT NULL
);
ALTER TABLE public.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.payloads (
    user_id character varying NOT NULL,
    request_id character varying NOT NULL,
    kind character varying NOT NULL,
    ciphertext bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.predictors (
    user_id character varying NOT NULL,
    router_id character varying NOT NULL,
    version integer NOT NULL,
    fitted_at timestamp with time zone NOT NULL,
    rows integer NOT NULL,
    accepted boolean NOT NULL,
    report jsonb NOT NULL,
    artifact bytea
);
CREATE TABLE public.providers (
    user_id character varying NOT NULL,
    id character varying NOT NULL,
    kind character varying NOT NULL,
    base_url character varying,
    api_key_encrypted bytea,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    further_keys_encrypted bytea[] DEFAULT '{}'::bytea[] NOT NULL
);
CREATE TABLE public.request_names (
    user_id character varying NOT NULL,
    kind character varying NOT NULL,
    name_hash bytea NOT NULL,
    body_digest bytea NOT NULL,
    request_id character varying NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.requests (
    user_id character varying NOT NULL,
    request_id character varying NOT NULL,
    router_id character varying,
    api_key_id character varying,
    config_version integer NOT NULL,
    created_at timestamp with time zone NOT NULL,
    completed_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    status character varying NOT NULL,
    model character varying NOT NULL,
    provider character varying NOT NULL,
    latency_ms double precision NOT NULL,
    ttft_ms double precision,
    overhead_ms double precision NOT NULL,
    cost_usd double precision,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    success boolean NOT NULL,
    finish_reason character varying,
    request_type character varying NOT NULL,
    quality double precision,
    quality_source character varying,
    attempts integer NOT NULL,
    fallback_used boolean NOT NULL,
    degraded character varying[] NOT NULL,
    propensity double precision NOT NULL,
    explored boolean NOT NULL,
    prompt_hash character varying NOT NULL,
    decision jsonb NOT NULL,
    features jsonb NOT NULL,
    tags jsonb NOT NULL,
    session_id character varying,
    stream boolean NOT NULL,
    error_code character varying,
    error_status integer,
    carbon_g double precision,
    preferred_model character varying,
    preferred_cost_usd double precision,
    preferred_carbon_g double precision,
    best_model character varying,
    best_cost_usd double precision,
    best_carbon_g double precision,
    cheapest_model character varying,
    cheapest_cost_usd double precision,
    cheapest_carbon_g double precision,
    predicted_cost_usd double precision,
    predicted_carbon_g double precision,
    quality_confidence double precision,
    checks_quality double precision,
    quality_pending boolean
);
CREATE TABLE public.rescore_jobs (
    user_id character varying NOT NULL,
    id character varying NOT NULL,
    workflow_id character varying NOT NULL,
    status character varying NOT NULL,
    paused boolean NOT NULL,
    spec jsonb NOT NULL,
    total bigint NOT NULL,
    done bigint NOT NULL,
    scored bigint NOT NULL,
    sample_below bigint,
    cursor_user character varying NOT NULL,
    cursor_at timestamp with time zone,
    cursor_id character varying NOT NULL,
    judge_stopped character varying,
    error character varying,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    finished_at timestamp with time zone
);
CREATE TABLE public.router_versions (
    user_id character varying NOT NULL,
    router_id character varying NOT NULL,
    version integer NOT NULL,
    body jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    created_by character varying NOT NULL
);
CREATE TABLE public.routers (
    user_id character varying NOT NULL,
    id character varying NOT NULL,
    body jsonb NOT NULL,
    version integer NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.site_login_attempts (
    key bytea NOT NULL,
    attempts integer NOT NULL,
    window_ends_at timestamp with time zone NOT NULL
);
CREATE TABLE public.site_sessions (
    token_hash bytea NOT NULL,
    username character varying NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.site_users (
    username character varying NOT NULL,
    user_id character varying NOT NULL,
    role character varying NOT NULL,
    password_hash character varying NOT NULL,
    active boolean NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    last_login_at timestamp with time zone
);
CREATE TABLE public.stale_hours (
    id bigint NOT NULL,
    hour timestamp with time zone NOT NULL,
    reason character varying NOT NULL,
    noted_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE public.stale_hours ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.stale_hours_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.stored_texts (
    user_id character varying NOT NULL,
    request_id character varying NOT NULL,
    router_id character varying NOT NULL,
    ciphertext bytea NOT NULL,
    expires_at timestamp with time zone NOT NULL
);
CREATE TABLE public.users (
    id character varying NOT NULL,
    operator boolean NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
INSERT INTO public.aggregated_hours (hour, requests, aggregated_at, duration_ms) VALUES ('2026-03-02 10:00:00+00', 2, '2026-03-02 13:00:00+00', 1.5);
INSERT INTO public.alembic_version (version_num) VALUES ('0008');
INSERT INTO public.api_keys (id, user_id, name, prefix, key_hash, scopes, allowed_routers, active, expires_at, last_used_at, created_at, rotated_from) VALUES ('k', 'u1', 'laptop', 'mp_00000000', '\x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', '{chat,admin}', NULL, true, NULL, NULL, '2026-03-02 10:02:30+00', NULL);
INSERT INTO public.attempts (user_id, request_id, seq, model, provider, status, error_type, http_status, message_encrypted, latency_ms, ttft_ms, cost_usd, input_tokens, output_tokens, cached_tokens, reasoning_tokens, started_at, deployment) VALUES ('u1', 'r0001', 0, 'sim/large', 'simulator', 'ok', NULL, 200, NULL, 101, 11, 0.25, 1, 2, 0, 0, '2026-03-02 10:02:30+00', 'simulator/sim/large');
INSERT INTO public.attempts (user_id, request_id, seq, model, provider, status, error_type, http_status, message_encrypted, latency_ms, ttft_ms, cost_usd, input_tokens, output_tokens, cached_tokens, reasoning_tokens, started_at, deployment) VALUES ('u1', 'r0007', 0, 'sim/large', 'simulator', 'error', 'rate_limited', 429, NULL, 107, NULL, 0.25, 1, 2, 0, 0, '2026-03-02 10:17:30+00', 'simulator/sim/large');
INSERT INTO public.feedback (user_id, request_id, api_key_id, source, router_id, model, score, comment_encrypted, created_at, updated_at) VALUES ('u1', 'r0001', 'k', '', 'support', 'sim/large', 1, NULL, '2026-03-02 10:02:30+00', '2026-03-02 10:02:30+00');
INSERT INTO public.hourly_metrics (hour, user_id, router_id, model, provider, requests, success_count, success_rate, total_latency_ms, avg_latency_ms, total_cost_usd, avg_cost_usd, p50_latency_ms, p95_latency_ms, input_tokens, output_tokens, updated_at, p99_latency_ms, p50_ttft_ms, p50_overhead_ms, avg_quality, cached_tokens, reasoning_tokens, failed_count, canceled_count, fallback_count, degraded_count, explored_count, attempt_count, known_cost_count, unknown_cost_count, unknown_carbon_count, quality_count, total_carbon_g) VALUES ('2026-03-02 10:00:00+00', 'u1', 'support', 'sim/large', 'simulator', 2, 1, 0.5, 208, 104, 0.5, 0.25, 101, 101, 8, 16, '2026-03-02 13:00:00+00', 101, 11, 2, NULL, 0, 0, 1, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0.25);
INSERT INTO public.hourly_totals (hour, user_id, model, requests, failed_count, canceled_count, fallback_count, total_cost_usd, unknown_cost_count, total_carbon_g, unknown_carbon_count) VALUES ('2026-03-02 10:00:00+00', 'u1', 'sim/large', 2, 1, 0, 0, 0.5, 0, 0.25, 0);
INSERT INTO public.metric_progress (name, through, updated_at) VALUES ('exported', '1970-01-01 00:00:00+00', '2026-03-02 13:00:00+00');
INSERT INTO public.metric_progress (name, through, updated_at) VALUES ('closed', '1970-01-01 00:00:00+00', '2026-03-02 13:00:00+00');
INSERT INTO public.metric_progress (name, through, updated_at) VALUES ('aggregated', '2026-03-02 13:00:00+00', '2026-03-02 13:00:00+00');
INSERT INTO public.outbox (id, user_id, created_at, point, embedding) OVERRIDING SYSTEM VALUE VALUES (1, 'u1', '2026-03-02 10:02:30+00', '{"model": "sim/large"}', '\x0000803f');
INSERT INTO public.providers (user_id, id, kind, base_url, api_key_encrypted, created_at, updated_at, further_keys_encrypted) VALUES ('u1', 'openai', 'openai', NULL, '\x017365616c6564', '2026-03-02 10:02:30+00', '2026-03-02 10:02:30+00', '{}');
INSERT INTO public.requests (user_id, request_id, router_id, api_key_id, config_version, created_at, completed_at, recorded_at, status, model, provider, latency_ms, ttft_ms, overhead_ms, cost_usd, input_tokens, output_tokens, cached_tokens, reasoning_tokens, success, finish_reason, request_type, quality, quality_source, attempts, fallback_used, degraded, propensity, explored, prompt_hash, decision, features, tags, session_id, stream, error_code, error_status, carbon_g, preferred_model, preferred_cost_usd, preferred_carbon_g, best_model, best_cost_usd, best_carbon_g, cheapest_model, cheapest_cost_usd, cheapest_carbon_g, predicted_cost_usd, predicted_carbon_g, quality_confidence, checks_quality, quality_pending) VALUES ('u1', 'r0001', 'support', 'k', 1, '2026-03-02 10:02:30+00', '2026-03-02 10:02:30+00', '2026-03-02 10:02:30+00', 'completed', 'sim/large', 'simulator', 101, 11, 2, 0.25, 1, 2, 0, 0, true, 'stop', 'code', NULL, NULL, 1, false, '{}', 1, false, 'h', '{"candidates": [], "selectedModel": "sim/small"}', '{}', '{"team": "a"}', NULL, false, NULL, NULL, 0.125, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.requests (user_id, request_id, router_id, api_key_id, config_version, created_at, completed_at, recorded_at, status, model, provider, latency_ms, ttft_ms, overhead_ms, cost_usd, input_tokens, output_tokens, cached_tokens, reasoning_tokens, success, finish_reason, request_type, quality, quality_source, attempts, fallback_used, degraded, propensity, explored, prompt_hash, decision, features, tags, session_id, stream, error_code, error_status, carbon_g, preferred_model, preferred_cost_usd, preferred_carbon_g, best_model, best_cost_usd, best_carbon_g, cheapest_model, cheapest_cost_usd, cheapest_carbon_g, predicted_cost_usd, predicted_carbon_g, quality_confidence, checks_quality, quality_pending) VALUES ('u1', 'r0007', 'support', 'k', 1, '2026-03-02 10:17:30+00', '2026-03-02 10:17:30+00', '2026-03-02 10:02:30+00', 'failed', 'sim/large', 'simulator', 107, NULL, 2, 0.25, 7, 14, 0, 0, false, 'stop', 'code', NULL, NULL, 1, false, '{}', 1, false, 'h', '{"candidates": [], "selectedModel": "sim/small"}', '{}', '{"team": "a"}', NULL, false, NULL, NULL, 0.125, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO public.routers (user_id, id, body, version, created_at, updated_at) VALUES ('u1', 'demo', '{"id": "demo", "mode": "balanced"}', 2, '2026-03-02 10:02:30+00', '2026-03-02 10:02:30+00');
INSERT INTO public.site_users (username, user_id, role, password_hash, active, created_at, last_login_at) VALUES ('ada', 'u1', 'viewer', '$argon2id$none', true, '2026-03-02 10:02:30+00', NULL);
INSERT INTO public.users (id, operator, created_at) VALUES ('u1', true, '2026-03-02 00:00:00+00');
SELECT pg_catalog.setval('public.audit_log_id_seq', 1, false);
SELECT pg_catalog.setval('public.outbox_id_seq', 1, true);
SELECT pg_catalog.setval('public.stale_hours_id_seq', 1, true);
ALTER TABLE ONLY public.aggregated_hours
    ADD CONSTRAINT aggregated_hours_pkey PRIMARY KEY (hour);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (user_id, request_id, seq);
ALTER TABLE ONLY public.audit_log
    ADD CONSTRAINT audit_log_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.claims
    ADD CONSTRAINT claims_pkey PRIMARY KEY (user_id, request_id);
ALTER TABLE ONLY public.exported_files
    ADD CONSTRAINT exported_files_pkey PRIMARY KEY (path);
ALTER TABLE ONLY public.feedback
    ADD CONSTRAINT feedback_pkey PRIMARY KEY (user_id, request_id, api_key_id, source);
ALTER TABLE ONLY public.hourly_baseline_totals
    ADD CONSTRAINT hourly_baseline_totals_pkey PRIMARY KEY (hour, user_id, baseline);
ALTER TABLE ONLY public.hourly_baselines
    ADD CONSTRAINT hourly_baselines_pkey PRIMARY KEY (hour, user_id, router_id, model, provider, baseline);
ALTER TABLE ONLY public.hourly_metrics
    ADD CONSTRAINT hourly_metrics_pkey PRIMARY KEY (hour, user_id, router_id, model, provider);
ALTER TABLE ONLY public.hourly_totals
    ADD CONSTRAINT hourly_totals_pkey PRIMARY KEY (hour, user_id, model);
ALTER TABLE ONLY public.instances
    ADD CONSTRAINT instances_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.judgements
    ADD CONSTRAINT judgements_pkey PRIMARY KEY (user_id, request_id, judge_model, rubric);
ALTER TABLE ONLY public.metric_progress
    ADD CONSTRAINT metric_progress_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.models
    ADD CONSTRAINT models_pkey PRIMARY KEY (user_id, id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.payloads
    ADD CONSTRAINT payloads_pkey PRIMARY KEY (user_id, request_id, kind);
ALTER TABLE ONLY public.predictors
    ADD CONSTRAINT predictors_pkey PRIMARY KEY (user_id, router_id, version);
ALTER TABLE ONLY public.providers
    ADD CONSTRAINT providers_pkey PRIMARY KEY (user_id, id);
ALTER TABLE ONLY public.request_names
    ADD CONSTRAINT request_names_pkey PRIMARY KEY (user_id, kind, name_hash);
ALTER TABLE ONLY public.requests
    ADD CONSTRAINT requests_pkey PRIMARY KEY (user_id, request_id);
ALTER TABLE ONLY public.rescore_jobs
    ADD CONSTRAINT rescore_jobs_pkey PRIMARY KEY (user_id, id);
ALTER TABLE ONLY public.router_versions
    ADD CONSTRAINT router_versions_pkey PRIMARY KEY (user_id, router_id, version);
ALTER TABLE ONLY public.routers
    ADD CONSTRAINT routers_pkey PRIMARY KEY (user_id, id);
ALTER TABLE ONLY public.site_login_attempts
    ADD CONSTRAINT site_login_attempts_pkey PRIMARY KEY (key);
ALTER TABLE ONLY public.site_sessions
    ADD CONSTRAINT site_sessions_pkey PRIMARY KEY (token_hash);
ALTER TABLE ONLY public.site_users
    ADD CONSTRAINT site_users_pkey PRIMARY KEY (username);
ALTER TABLE ONLY public.stale_hours
    ADD CONSTRAINT stale_hours_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.stored_texts
    ADD CONSTRAINT stored_texts_pkey PRIMARY KEY (user_id, request_id);
ALTER TABLE ONLY public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id);
CREATE INDEX api_keys_by_owner ON public.api_keys USING btree (user_id, created_at DESC, id DESC);
CREATE INDEX audit_log_by_owner ON public.audit_log USING btree (user_id, id DESC);
CREATE INDEX exported_files_by_hour ON public.exported_files USING btree (hour);
CREATE INDEX exported_files_due ON public.exported_files USING btree (hour) WHERE (revision > exported_revision);
CREATE INDEX feedback_by_router ON public.feedback USING btree (user_id, router_id, model, updated_at);
CREATE INDEX hourly_baseline_totals_by_owner ON public.hourly_baseline_totals USING btree (user_id, hour DESC);
CREATE INDEX hourly_baselines_by_owner ON public.hourly_baselines USING btree (user_id, hour DESC);
CREATE INDEX hourly_metrics_by_owner ON public.hourly_metrics USING btree (user_id, hour DESC);
CREATE INDEX hourly_totals_by_owner ON public.hourly_totals USING btree (user_id, hour DESC);
CREATE INDEX ix_claims_claimed_at ON public.claims USING btree (claimed_at);
CREATE INDEX ix_payloads_expires_at ON public.payloads USING btree (expires_at);
CREATE INDEX ix_request_names_created_at ON public.request_names USING btree (created_at);
CREATE INDEX ix_site_login_attempts_window_ends_at ON public.site_login_attempts USING btree (window_ends_at);
CREATE INDEX ix_site_sessions_username ON public.site_sessions USING btree (username);
CREATE INDEX ix_stale_hours_hour ON public.stale_hours USING btree (hour);
CREATE INDEX ix_stored_texts_expires_at ON public.stored_texts USING btree (expires_at);
CREATE INDEX judgements_by_job ON public.judgements USING btree (job_user_id, job_id);
CREATE INDEX requests_by_arrival ON public.requests USING brin (recorded_at);
CREATE INDEX requests_by_owner ON public.requests USING btree (user_id, created_at DESC, request_id DESC);
CREATE INDEX requests_by_prompt ON public.requests USING btree (prompt_hash);
CREATE INDEX requests_by_router ON public.requests USING btree (user_id, router_id, created_at DESC);
CREATE INDEX requests_by_time ON public.requests USING brin (created_at);
CREATE INDEX requests_quality_pending ON public.requests USING btree (user_id, created_at, request_id) WHERE quality_pending;
CREATE INDEX rescore_jobs_by_owner ON public.rescore_jobs USING btree (user_id, created_at DESC, id DESC);
CREATE INDEX routers_by_owner ON public.routers USING btree (user_id, created_at DESC, id DESC);
CREATE INDEX stored_texts_by_router ON public.stored_texts USING btree (user_id, router_id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.site_sessions
    ADD CONSTRAINT site_sessions_username_fkey FOREIGN KEY (username) REFERENCES public.site_users(username) ON DELETE CASCADE;
ALTER TABLE ONLY public.site_users
    ADD CONSTRAINT site_users_user_id_fkey FOREIGN KEY (user_id) REFERENCES public.users(id) ON DELETE CASCADE;

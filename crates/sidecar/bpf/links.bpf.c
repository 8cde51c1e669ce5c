// The kernel path of links: connect() to a virtual address goes to an endpoint itself, and no byte passes through us.
//
//   connect4, connect6          choose an endpoint of the link and write its address into the call
//   getpeername4, getpeername6  show the client the address that it asked for
//   sockops                     see how the connection fares: an endpoint that failed is not chosen for ten seconds
//
// Whatever does not fit here (no entry, no lease, only endpoints that failed) leaves the call as it is: it then reaches the
// relay by the rules of `ip portolan`. Nothing is ever refused here, and sockets that did not ask for a virtual address are
// not touched. Needs Linux 5.8. Everything is declared here, so that clang alone builds it; `links/ebpf/encoding.rs` has the
// same layout.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "places are put together for little-endian machines"
#endif

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

// linux/bpf.h: context of cgroup/connect and cgroup/getpeername.
struct bpf_sock_addr {
	u32 user_family;
	u32 user_ip4; // network order
	u32 user_ip6[4]; // network order
	u32 user_port; // network order, in the lower half
	u32 family;
	u32 type;
	u32 protocol;
};

// linux/bpf.h: context of sockops, as far as it is used.
struct bpf_sock_ops {
	u32 op;
	u32 args[4];
	u32 family;
	u32 remote_ip4; // network order
	u32 local_ip4;
	u32 remote_ip6[4];
	u32 local_ip6[4];
	u32 remote_port; // network order, in the upper half
	u32 local_port;
	u32 is_fullsock;
	u32 snd_cwnd;
	u32 srtt_us;
	u32 cb_flags;
	u32 state;
};

static void *(*const map_lookup)(void *map, const void *key) = (void *)1;
static long (*const map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static long (*const map_delete)(void *map, const void *key) = (void *)3;
static u32 (*const random_u32)(void) = (void *)7;
static u64 (*const socket_cookie)(void *context) = (void *)46;
static long (*const cb_flags_set)(struct bpf_sock_ops *context, int flags) = (void *)59;
static u64 (*const boot_ns)(void) = (void *)125;

enum {
	PROTOCOL_TCP = 6,

	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_CLOSE = 7,

	OP_TCP_CONNECT = 3,
	OP_RTO = 8,
	OP_STATE = 10,

	FLAG_RTO = 1 << 0,
	FLAG_STATE = 1 << 2,

	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_LRU_HASH = 9,
	MAP_NO_PREALLOC = 1,
	PINNED_BY_NAME = 1,
	UPDATE_ABSENT = 1,

	ENDPOINTS_MAX = 64,
};

// How long an endpoint that failed is not chosen.
#define FAILURE_MEMORY_NS (10ull * 1000 * 1000 * 1000)

// An address (4 bytes) and a port (2), both in network order; of an endpoint, the upper two bytes are its weight.
typedef u64 place;
#define PLACE_MASK 0xffffffffffffull
#define WEIGHT_SHIFT 48

struct endpoint {
	place place; // without an address: the share of connections that is the relay's
	u64 leased_until; // boot time
	u64 seal; // proves that these fields belong together, and to this link
};

struct link {
	u64 count;
	struct endpoint endpoints[ENDPOINTS_MAX];
};

struct pair {
	place link; // what the client asked for
	place endpoint; // what it got
};

struct peer {
	struct pair pair;
	u64 is_counted;
};

struct figures {
	u64 connections;
	u64 failures;
};

struct map_definition {
	u32 type, key_size, value_size, max_entries, flags, id, pinning;
};

// Written by the sidecar, read here.
struct map_definition SECTION("maps") links = {
	MAP_HASH, sizeof(place), sizeof(struct link), 16384, MAP_NO_PREALLOC, 0, PINNED_BY_NAME,
};
// Socket cookie to what it is connected to, while it is open.
struct map_definition SECTION("maps") peers = {
	MAP_LRU_HASH, sizeof(u64), sizeof(struct peer), 65536, 0, 0, PINNED_BY_NAME,
};
// Endpoints that failed, until when they are not chosen.
struct map_definition SECTION("maps") failed = {
	MAP_LRU_HASH, sizeof(place), sizeof(u64), 4096, 0, 0, PINNED_BY_NAME,
};
// Until when anything at all is in `failed`: spares the lookups while all is well.
struct map_definition SECTION("maps") failing = {
	MAP_ARRAY, sizeof(u32), sizeof(u64), 1, 0, 0, PINNED_BY_NAME,
};
// Link and endpoint to their figures.
struct map_definition SECTION("maps") figures = {
	MAP_LRU_HASH, sizeof(struct pair), sizeof(struct figures), 16384, 0, 0, PINNED_BY_NAME,
};

INLINE u64 mix(u64 value)
{
	value ^= value >> 32;
	value *= 0xd6e8feb86659fd93ull;
	return value ^ value >> 32;
}

// The kernel may use the memory of a replaced value again while a program still reads it. What was put together of two
// values has the seal of neither.
INLINE u64 seal(place link, place endpoint, u64 leased_until)
{
	return mix(endpoint ^ mix(leased_until ^ mix(link)));
}

INLINE int may_fail(u64 now)
{
	u32 first = 0;
	u64 *until = map_lookup(&failing, &first);
	return until && *until > now;
}

INLINE int has_failed(place endpoint, u64 now)
{
	u64 *until = map_lookup(&failed, &endpoint);
	return until && *until > now;
}

// At random by weight among those that are leased and did not fail lately. 0: none, or the relay's turn.
//
// In one pass, each taking the place of the one before it with the chance that is its due: what is kept of the pass is too
// little for the verifier to follow every combination of endpoints apart.
INLINE place choose(const struct link *link, place key)
{
	u64 now = boot_ns(), count = link->count;
	u64 chosen = 0, chosen_until = 0, chosen_seal = 0;
	u32 total = 0;
	int asks = may_fail(now);

	for (u32 i = 0; i < ENDPOINTS_MAX; i++) {
		if (i >= count)
			break;
		const volatile struct endpoint *endpoint = &link->endpoints[i];
		place at = endpoint->place;
		u32 weight = at >> WEIGHT_SHIFT;
		u64 until = endpoint->leased_until;
		if (!weight || until <= now || (asks && has_failed(at & PLACE_MASK, now)))
			continue;
		total += weight;
		if (random_u32() % total < weight) {
			chosen = at;
			chosen_until = until;
			chosen_seal = endpoint->seal;
		}
	}
	if (chosen_seal != seal(key, chosen, chosen_until))
		return 0;
	return chosen & PLACE_MASK;
}

INLINE place place_of(u32 ip4, u16 port)
{
	return (u64)port << 32 | ip4;
}

INLINE place redirected(struct bpf_sock_addr *context, u32 ip4)
{
	place key = place_of(ip4, context->user_port);
	const struct link *link = map_lookup(&links, &key);
	if (!link || context->protocol != PROTOCOL_TCP)
		return 0;
	place endpoint = choose(link, key);
	// Without an address it is the relay's.
	if (!(u32)endpoint)
		return 0;
	u64 cookie = socket_cookie(context);
	struct peer peer = { { key, endpoint }, 0 };
	map_update(&peers, &cookie, &peer, 0);
	return endpoint;
}

INLINE int is_mapped(struct bpf_sock_addr *context)
{
	return context->user_ip6[0] == 0 && context->user_ip6[1] == 0 && context->user_ip6[2] == 0xffff0000;
}

SECTION("cgroup/connect4") int portolan_connect4(struct bpf_sock_addr *context)
{
	place endpoint = redirected(context, context->user_ip4);
	if (endpoint) {
		context->user_ip4 = endpoint;
		context->user_port = endpoint >> 32;
	}
	return 1;
}

// A socket of the IPv6 family that connects to ::ffff:198.18.x.y.
SECTION("cgroup/connect6") int portolan_connect6(struct bpf_sock_addr *context)
{
	if (!is_mapped(context))
		return 1;
	place endpoint = redirected(context, context->user_ip6[3]);
	if (endpoint) {
		context->user_ip6[3] = endpoint;
		context->user_port = endpoint >> 32;
	}
	return 1;
}

// What the client asked for, if the socket is still connected to what it then got.
INLINE place asked_for(struct bpf_sock_addr *context, u32 ip4)
{
	u64 cookie = socket_cookie(context);
	struct peer *peer = map_lookup(&peers, &cookie);
	if (!peer || peer->pair.endpoint != place_of(ip4, context->user_port))
		return 0;
	return peer->pair.link;
}

SECTION("cgroup/getpeername4") int portolan_getpeername4(struct bpf_sock_addr *context)
{
	place link = asked_for(context, context->user_ip4);
	if (link) {
		context->user_ip4 = link;
		context->user_port = link >> 32;
	}
	return 1;
}

SECTION("cgroup/getpeername6") int portolan_getpeername6(struct bpf_sock_addr *context)
{
	if (!is_mapped(context))
		return 1;
	place link = asked_for(context, context->user_ip6[3]);
	if (link) {
		context->user_ip6[3] = link;
		context->user_port = link >> 32;
	}
	return 1;
}

INLINE void note_failure(place endpoint)
{
	u64 until = boot_ns() + FAILURE_MEMORY_NS;
	u32 first = 0;
	map_update(&failed, &endpoint, &until, 0);
	map_update(&failing, &first, &until, 0);
}

INLINE struct figures *figures_of(const struct peer *peer)
{
	struct pair key = peer->pair;
	struct figures *found = map_lookup(&figures, &key);
	if (!found) {
		struct figures none = { 0, 0 };
		map_update(&figures, &key, &none, UPDATE_ABSENT);
		found = map_lookup(&figures, &key);
	}
	return found;
}

INLINE void state_changed(struct peer *peer, u64 cookie, u32 before, u32 now)
{
	// While one sidecar takes over from another, both programs are here.
	if (before == TCP_SYN_SENT && !peer->is_counted) {
		struct figures *figures = figures_of(peer);
		peer->is_counted = 1;
		if (figures && now == TCP_ESTABLISHED)
			__sync_fetch_and_add(&figures->connections, 1);
		if (figures && now == TCP_CLOSE)
			__sync_fetch_and_add(&figures->failures, 1);
		// A client that gave up counts as well: the endpoint took longer than it would wait.
		if (now == TCP_CLOSE)
			note_failure(peer->pair.endpoint);
	}
	if (now == TCP_CLOSE)
		map_delete(&peers, &cookie);
}

// Replies are left alone: they are other programs'.
SECTION("sockops") int portolan_sockops(struct bpf_sock_ops *context)
{
	u32 op = context->op;
	if (op != OP_TCP_CONNECT && op != OP_RTO && op != OP_STATE)
		return 1;
	u64 cookie = socket_cookie(context);
	struct peer *peer = map_lookup(&peers, &cookie);
	// A socket may be used again for a connection that is none of ours.
	if (!peer || peer->pair.endpoint != place_of(context->remote_ip4, context->remote_port >> 16))
		return 1;
	if (op == OP_TCP_CONNECT)
		cb_flags_set(context, context->cb_flags | FLAG_STATE | FLAG_RTO);
	// Nothing answered the first packet for a second: others need not wait as long as this client.
	if (op == OP_RTO && context->state == TCP_SYN_SENT)
		note_failure(peer->pair.endpoint);
	if (op == OP_STATE)
		state_changed(peer, cookie, context->args[0], context->args[1]);
	return 1;
}

char licence_text[] SECTION("license") = "Apache-2.0";

// A module for tests that does what the first byte of its event says. Build it, and the two that cannot run, with
//
//	clang --target=wasm32 -O1 -nostdlib -o probe.wasm probe.c
//	clang --target=wasm32 -O1 -nostdlib -DSTRANGER -o stranger.wasm probe.c
//	clang --target=wasm32 -O1 -nostdlib -DLIBRARY -Wl,--no-entry -o library.wasm probe.c
//	clang --target=wasm32 -O1 -nostdlib -Wl,--initial-memory=67108864 -o large.wasm probe.c

#define IMPORT(module, name) __attribute__((import_module(#module), import_name(#name)))
#define WASI(name) IMPORT(wasi_snapshot_preview1, name)

typedef unsigned long size;
typedef unsigned long long u64;

struct io { char *at; size n; };

WASI(fd_read) int fd_read(int fd, struct io *to, int n, size *done);
WASI(fd_write) int fd_write(int fd, struct io *from, int n, size *done);
WASI(proc_exit) void proc_exit(int status);
WASI(poll_oneoff) int poll_oneoff(void *subscriptions, void *events, int n, size *done);
WASI(path_open) int path_open(int dir, int follow, const char *path, size n, int oflags, u64 rights, u64 inheriting, int flags, int *fd);
IMPORT(covey, fail) void fail(const char *type, size type_n, const char *message, size message_n);
IMPORT(covey, set_status) void set_status(int status);
IMPORT(elsewhere, missing) void missing(void);

static volatile int sink;

static void say(int fd, char *text, size n) {
	struct io from = {text, n};
	size done;
	fd_write(fd, &from, 1, &done);
}

// Takes exponential time without a loop.
__attribute__((noinline)) static int fibonacci(int n) {
	if (n < 2) return n;
	int a = fibonacci(n - 1), b = fibonacci(n - 2);
	return b * 3 ^ a;
}

static void number(unsigned n) {
	char text[10];
	int at = 10;
	do text[--at] = '0' + n % 10; while (n /= 10);
	say(1, text + at, 10 - at);
}

#ifdef LIBRARY
__attribute__((export_name("answer"))) int answer(void) { return 42; }
#else
void _start(void) {
	static char event[200];
	struct io to = {event, sizeof event};
	size n = 0;
	fd_read(0, &to, 1, &n);
	switch (event[0]) {
	case 'l': for (;;) sink++;
	case 'r': sink = fibonacci(100); break;
	case 't': say(2, "about to fall\n", 14); __builtin_trap();
	case 'x': say(2, "leaving\n", 8); proc_exit(7);
	case 'f': fail("NotFound", 8, "no such worm", 12); break;
	case 'w': fail((char *)0xfffffff0, 100, "", 0); break; // outside of the memory
	case 'u': set_status(202); break;
	case 's': { // sleeps for an hour
		static u64 subscription[6] = {0, 0, 1, 3600ull * 1000000000};
		static char events[32];
		poll_oneoff(subscription, events, 1, &n);
		say(1, "slept", 5);
		break;
	}
	case 'g': { // takes all the memory that there is
		while (__builtin_wasm_memory_grow(0, 1) != -1ul) sink++;
		number(__builtin_wasm_memory_size(0));
		break;
	}
	case 'o': { // opens a file, for writing if it is in /tmp; the preopened folders are 3 and 4
		int fd, tmp = event[1] == 't';
		number(path_open(tmp ? 4 : 3, 1, event + 2, n - 2, event[1] == 'r' ? 0 : 1, event[1] == 'r' ? 0x2 : 0x42, 0, 0, &fd));
		break;
	}
#ifdef STRANGER
	case 'm': missing();
#endif
	}
}
#endif

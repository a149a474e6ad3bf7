/* A model at the end of a serial line: answers the requests of docs/SPEC.md. It knows no model; a descriptor tells it all.
 *
 * Every request is executed at most once: the PC opens a session, numbers its requests without gaps, and repeats the one
 * that it got no answer to; a number that was seen is answered again, one that does not follow is refused.
 */
#ifndef ET_DEVICE_H
#define ET_DEVICE_H

#include "et_base.h"
#include "et_link.h"

/* Types of frames. An answer has the type of its request + ET_DEVICE_ANSWER. */
enum {
    ET_DEVICE_INFO = 1, /* session u32: opens it */
    ET_DEVICE_WRITE = 2,
    ET_DEVICE_READ = 3,
    ET_DEVICE_INIT = 4,
    ET_DEVICE_INFER = 5,
    ET_DEVICE_TRAIN = 6,
    ET_DEVICE_UPDATE = 7,
    ET_DEVICE_SET = 8,
    ET_DEVICE_GET = 9,
    ET_DEVICE_STATS = 10,
    ET_DEVICE_EXIT = 11,
    ET_DEVICE_SAVE = 12, /* mark u64 */
    ET_DEVICE_LOAD = 13,
    ET_DEVICE_ROLLBACK = 14,
    ET_DEVICE_EVAL = 15,
    ET_DEVICE_RESET = 16,
    ET_DEVICE_CODED = 0x40, /* added to INFER, TRAIN or EVAL: the inputs that come with it are codes, a byte each */
    ET_DEVICE_ANSWER = 0x80,
    ET_DEVICE_DAMAGED = 0xFD, /* unasked: what has just ended was no good frame, and nothing was done */
    ET_DEVICE_READY = 0xFE,   /* unasked, after reset */
    ET_DEVICE_TRAP = 0xFF     /* unasked, the last: cause u64, pc u64, value u64 */
};

/* First byte of an answer. */
enum {
    ET_ANSWER_OK = 0,
    ET_ANSWER_UNKNOWN_REQUEST = 1,
    ET_ANSWER_BAD_LENGTH = 2,
    ET_ANSWER_BAD_REGION = 3, /* no such region, or beyond its end */
    ET_ANSWER_NO_SESSION = 4, /* ET_DEVICE_INFO must come first */
    ET_ANSWER_OUT_OF_ORDER = 5
};

/* Memory that the PC can read and write. INFO tells the first ET_REGION_COUNT of them. */
enum {
    ET_REGION_INPUT = 0, /* the inputs one after another, each from a multiple of 4 */
    ET_REGION_LABEL = 1,
    ET_REGION_OUTPUT = 2, /* the outputs, likewise */
    ET_REGION_PARAMS = 3,
    ET_REGION_ARENA = 4,
    ET_REGION_COUNT = 5,
    ET_REGION_CODES = 5,       /* what each code stands for: float32 [ET_DEVICE_CODES] */
    ET_REGION_CODED_INPUT = 6  /* the inputs, written as codes: the offset counts elements; cannot be read */
};

/* Which scalars ET_DEVICE_SET changes. */
enum { ET_SET_LEARNING_RATE = 1, ET_SET_SEED = 2, ET_SET_STEP = 4 };

/* ET_FLAG_STORES is told where `keep` can keep states, ET_FLAG_SAMPLES always (INFER, TRAIN and EVAL take a sample with them),
 * ET_FLAG_CODES where there are `codes` (its inputs may come as codes): these are not to be set in a descriptor. */
enum {
    ET_FLAG_TRAINABLE = 1,
    ET_FLAG_ACCUMULATES = 2,
    ET_FLAG_FMA = 4,
    ET_FLAG_STORES = 8,
    ET_FLAG_SAMPLES = 16,
    ET_FLAG_CODES = 32
};

#define ET_DEVICE_DIGEST_BYTES 16u
#define ET_DEVICE_NAME_BYTES 64u
/* One for each value of a byte. */
#define ET_DEVICE_CODES 256u
/* The least payload that a board may have: that of the longest answer of fixed size. */
#define ET_DEVICE_LEAST_PAYLOAD 192u
/* What start-up code paints free memory, stack, params and arena with. */
#define ET_DEVICE_PAINT 0xA5u
/* The longest answer to a command, kept for a PC that missed it. */
#define ET_DEVICE_KEPT_BYTES 14u

typedef struct {
    void *data;
    uint32_t bytes;
} et_device_region;

/* A state in flash: sequence numbers count the saves, the mark is what the PC gave. */
typedef struct {
    uint32_t sequence;
    uint64_t mark;
} et_device_label;

/* A model and the board that it runs on. */
typedef struct {
    const char *name;
    const uint8_t *digest; /* [ET_DEVICE_DIGEST_BYTES], of the model's SHA-256 */
    uint8_t flags;
    et_device_region regions[ET_REGION_COUNT];
    float *codes; /* [ET_DEVICE_CODES] where all inputs are float32, for the PC to fill; NULL: no codes are taken */
    float *learning_rate;
    uint32_t *seed;
    uint32_t *step;
    const int32_t *failed_step;
    et_status (*init)(void);
    et_status (*infer)(void);
    et_status (*train)(float *loss); /* NULL, like update, where the model is not trainable */
    et_status (*update)(void);
    uint32_t classes;      /* of the first output, float32 [rows][classes]; 0 where there are none to count */
    bool label_is_class;   /* whose label is int32 [rows]; else float32 [rows][classes] */
    /* SAVE, LOAD or ROLLBACK, by et_device_keep; INFO: whether states can be kept. NULL: they cannot. */
    et_status (*keep)(uint8_t request, et_device_label *label);
    void (*reset)(void); /* starts the firmware over; NULL where it cannot */
    const uint32_t *free_start; /* painted from here to stack_top before main */
    const uint32_t *stack_top;
    uint64_t (*instructions)(void);
    void (*write)(uint8_t byte);
    uint8_t (*read)(void);
    uint8_t *frame; /* [ET_LINK_FRAME_BYTES(payload_bytes)] */
    uint16_t payload_bytes;
} et_device;

/* What a session has done. Set by et_device_start. */
typedef struct {
    et_link_decoder decoder;
    uint64_t instructions; /* of the last function of the model that ran */
    uint32_t session;      /* 0: none yet */
    uint16_t sequence;     /* of the last request */
    uint8_t type;          /* likewise */
    uint8_t answer[ET_DEVICE_KEPT_BYTES]; /* to the last request that changed something */
    uint8_t answer_bytes;
    uint8_t exit_code;
    bool ended;
    bool resetting;
} et_device_state;

/* Loads the newest state that the flash holds, if any, and announces the board. The model must be initialised. ET_BAD_ARGUMENT: payload_bytes is below ET_DEVICE_LEAST_PAYLOAD. */
ET_CHECKED et_status et_device_start(const et_device *device, et_device_state *state);

/* Takes a byte from the line; executes and answers a request when it is complete. */
void et_device_receive(const et_device *device, et_device_state *state, uint8_t byte);

/* Serves until the PC asks to exit.
 *   exit_code   [1] what the PC gave with it */
ET_CHECKED et_status et_device_run(const et_device *device, int *exit_code);

/* Tells the PC that the core has trapped. May be called at any time, on any stack. */
void et_device_report_trap(const et_device *device, uint64_t cause, uint64_t pc, uint64_t value);

#endif

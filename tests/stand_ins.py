"""Stand-ins for Zephyr, ESP-IDF and Arduino, as far as generated programs call them: the cable is stdin and stdout."""

from __future__ import annotations

from pathlib import Path

_CABLE = """
#ifndef CABLE_H
#define CABLE_H
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
/* The next byte, -1 where there is none yet; the end of the input ends the program. */
static inline int cable_read(void)
{
    struct pollfd ready = {0, POLLIN, 0};
    unsigned char byte;
    if (poll(&ready, 1, 1) <= 0)
        return -1;
    if (read(0, &byte, 1) != 1)
        exit(0);
    return byte;
}
static inline void cable_write(uint8_t byte)
{
    if (write(1, &byte, 1) != 1)
        exit(1);
}
#endif
"""
_ZEPHYR_DEVICE = """
struct device { int number; };
extern const struct device console;
#define DT_CHOSEN(name) name
#define zephyr_console console
#define DEVICE_DT_GET(name) (&name)
"""
_ZEPHYR_UART = """
#include "cable.h"
const struct device console = {0};
static inline void uart_poll_out(const struct device *port, unsigned char byte) { (void)port; cable_write(byte); }
static inline int uart_poll_in(const struct device *port, unsigned char *byte)
{
    const int found = cable_read();
    (void)port;
    *byte = (unsigned char)found;
    return found < 0 ? -1 : 0;
}
"""
_IDF_UART = """
#include "cable.h"
typedef int esp_err_t;
#define ESP_OK 0
#define UART_NUM_0 0
enum { UART_DATA_8_BITS = 3, UART_PARITY_DISABLE = 0, UART_STOP_BITS_1 = 1, UART_HW_FLOWCTRL_DISABLE = 0 };
typedef struct { int baud_rate, data_bits, parity, stop_bits, flow_ctrl; } uart_config_t;
static inline esp_err_t uart_driver_install(int port, int receive, int send, int queue, void *handle, int flags)
{
    return port == 0 && receive > 128 && send == 0 && queue == 0 && handle == NULL && flags == 0 ? ESP_OK : 1;
}
static inline esp_err_t uart_param_config(int port, const uart_config_t *config)
{
    return port == 0 && config->baud_rate == 115200 && config->data_bits == UART_DATA_8_BITS ? ESP_OK : 1;
}
static inline int uart_write_bytes(int port, const void *from, size_t bytes)
{
    (void)port;
    for (size_t i = 0; i < bytes; i++)
        cable_write(((const uint8_t *)from)[i]);
    return (int)bytes;
}
static inline int uart_read_bytes(int port, void *to, uint32_t bytes, uint32_t wait)
{
    const int found = cable_read();
    (void)port, (void)bytes, (void)wait;
    *(uint8_t *)to = (uint8_t)found;
    return found < 0 ? 0 : 1;
}
"""
_IDF_PARTITION = """
#include <string.h>
typedef struct { uint32_t size, erase_size; } esp_partition_t;
enum { ESP_PARTITION_TYPE_DATA = 1, ESP_PARTITION_SUBTYPE_ANY = 0xff };
static uint8_t flash[1 << 16];
static inline const esp_partition_t *esp_partition_find_first(int type, int subtype, const char *label)
{
    static const esp_partition_t found = {sizeof(flash), 4096};
    return type == ESP_PARTITION_TYPE_DATA && subtype == 0xff && strcmp(label, "edgetrain") == 0 ? &found : NULL;
}
static inline esp_err_t esp_partition_read(const esp_partition_t *p, size_t offset, void *to, size_t bytes)
{
    memcpy(to, flash + offset, bytes);
    return offset + bytes <= p->size ? ESP_OK : 1;
}
static inline esp_err_t esp_partition_write(const esp_partition_t *p, size_t offset, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        flash[offset + i] &= ((const uint8_t *)from)[i];
    return offset + bytes <= p->size ? ESP_OK : 1;
}
static inline esp_err_t esp_partition_erase_range(const esp_partition_t *p, size_t offset, size_t bytes)
{
    memset(flash + offset, 0xff, bytes);
    return offset % p->erase_size == 0 && bytes % p->erase_size == 0 ? ESP_OK : 1;
}
"""
_ARDUINO = """
#include "cable.h"
struct Port {
    void begin(unsigned long baud) { if (baud != 115200) exit(2); }
    int read() { return cable_read(); }
    size_t write(uint8_t byte) { cable_write(byte); return 1; }
};
static Port Serial;
"""
_HEADERS = {
    "zephyr": {"zephyr/device.h": _ZEPHYR_DEVICE, "zephyr/drivers/uart.h": _ZEPHYR_UART},
    "esp-idf": {
        "driver/uart.h": _IDF_UART,
        "esp_partition.h": _IDF_PARTITION,
        "freertos/FreeRTOS.h": "",
        "freertos/task.h": "static inline void vTaskDelay(uint32_t ticks) { (void)ticks; }\n",
    },
    "arduino": {"Arduino.h": _ARDUINO},
}
# The CMake functions that our files call.
_ZEPHYR_CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(stand_in C)
set(CONFIG_EDGETRAIN_DIGITS_CNN y)
function(zephyr_include_directories)
  foreach(folder ${ARGN})
    set_property(GLOBAL APPEND PROPERTY FOLDERS ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
  endforeach()
endfunction()
macro(zephyr_library)
  set(LIBRARY model)
  file(WRITE ${CMAKE_BINARY_DIR}/none.c "extern int none;")
  add_library(model STATIC ${CMAKE_BINARY_DIR}/none.c)
endmacro()
macro(zephyr_library_sources)
  target_sources(model PRIVATE ${ARGN})
endmacro()
macro(zephyr_library_compile_options)
  target_compile_options(model PRIVATE ${ARGN})
endmacro()
add_subdirectory(zephyr module)
get_property(FOLDERS GLOBAL PROPERTY FOLDERS)
target_include_directories(model PUBLIC ${FOLDERS})
add_executable(app sample/src/main.c)
target_include_directories(app PRIVATE stand_in)
target_link_libraries(app model)
"""
_IDF_CMAKE = """
cmake_minimum_required(VERSION 3.16)
project(stand_in C)
function(idf_component_register)
  cmake_parse_arguments(GIVEN "" "" "SRCS;INCLUDE_DIRS;REQUIRES" ${ARGN})
  get_filename_component(name ${CMAKE_CURRENT_SOURCE_DIR} NAME)
  set(COMPONENT_LIB ${name} PARENT_SCOPE)
  add_library(${name} STATIC ${GIVEN_SRCS})
  target_include_directories(${name} PUBLIC ${GIVEN_INCLUDE_DIRS})
  target_link_libraries(${name} PUBLIC ${GIVEN_REQUIRES})
endfunction()
add_library(esp_driver_uart INTERFACE)
target_include_directories(esp_driver_uart INTERFACE ${CMAKE_SOURCE_DIR}/stand_in)
add_library(esp_partition ALIAS esp_driver_uart)
add_subdirectory(components/digits_cnn)
add_subdirectory(main)
file(WRITE ${CMAKE_BINARY_DIR}/start.c "void app_main(void); int main(void) { app_main(); return 1; }")
add_executable(app ${CMAKE_BINARY_DIR}/start.c)
target_link_libraries(app main)
"""
_CMAKE = {"zephyr": _ZEPHYR_CMAKE, "esp-idf": _IDF_CMAKE}


def write_stand_ins(kind: str, place: Path) -> Path:
    """Puts them around a generated folder; where their headers are."""
    folder = place / "stand_in"
    for name, text in {"cable.h": _CABLE, **_HEADERS[kind]}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if kind in _CMAKE:
        (place / "CMakeLists.txt").write_text(_CMAKE[kind])
    return folder

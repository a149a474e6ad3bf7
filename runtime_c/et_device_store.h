/* SAVE, LOAD and ROLLBACK of a device with a flash: what a descriptor's `keep` calls. */
#ifndef ET_DEVICE_STORE_H
#define ET_DEVICE_STORE_H

#include "et_device.h"
#include "et_store.h"

/* Does what a request (ET_DEVICE_SAVE, _LOAD or _ROLLBACK) says with the params and the scalars of a device; for any other
 * tells whether states can be kept.
 *   layout   of the params: changes when their meaning does
 *   label    [1] in: the mark to save; out: what was saved or loaded
 * Status as et_store.h. */
ET_CHECKED et_status et_device_keep(const et_device *device, const et_flash *flash, uint32_t layout, uint8_t request,
                                    et_device_label *label);

#endif

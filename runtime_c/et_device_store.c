#include "et_device_store.h"

et_status et_device_keep(const et_device *device, const et_flash *flash, uint32_t layout, uint8_t request,
                         et_device_label *label)
{
    const et_store_state state = {
        .data = device->regions[ET_REGION_PARAMS].data,
        .bytes = device->regions[ET_REGION_PARAMS].bytes,
        .layout = layout,
        .digest = device->digest,
        .learning_rate = device->learning_rate,
        .seed = device->seed,
        .step = device->step,
    };
    et_store_label found = {0, 0};
    et_status status;
    if (request == ET_DEVICE_SAVE)
        status = et_store_save(flash, &state, label->mark, &found);
    else if (request == ET_DEVICE_LOAD)
        status = et_store_load(flash, &state, &found);
    else if (request == ET_DEVICE_ROLLBACK)
        status = et_store_rollback(flash, &state, &found);
    else
        status = et_store_usable(flash, &state);
    label->sequence = found.sequence;
    label->mark = found.mark;
    return status;
}

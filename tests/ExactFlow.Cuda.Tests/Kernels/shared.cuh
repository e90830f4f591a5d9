// shared
int shared_value();
